"""The one limit on size: data that is held whole in memory is refused before it is decoded if it cannot fit."""

from ..errors import ConvaeError

GIBIBYTE = 2**30
LARGEST = 8 * GIBIBYTE


LESS = "use a smaller --size or a --limit"
FROM_FILES = ", or read the files while training with --workers 2"


def refuse_too_large(what: object, byte_count: int, instead: str = "", advice: str = LESS) -> None:
    """Raise when that many bytes of pixels are more than `LARGEST`; `advice` helps, or what `instead` says."""
    if byte_count > LARGEST:
        raise ConvaeError(
            f"{what} would take {byte_count / GIBIBYTE:.1f} GiB of memory, more than "
            f"{LARGEST // GIBIBYTE} GiB; {advice}{instead}."
        )
