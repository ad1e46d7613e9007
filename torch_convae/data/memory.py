"""The one limit on size: data is held whole in memory, so what cannot fit is refused before it is decoded."""

from ..errors import ConvaeError

GIBIBYTE = 2**30
LARGEST = 8 * GIBIBYTE


def refuse_too_large(what: object, byte_count: int) -> None:
    """Raise when that many bytes of pixels are more than `LARGEST`."""
    if byte_count > LARGEST:
        raise ConvaeError(
            f"{what} would take {byte_count / GIBIBYTE:.1f} GiB of memory, more than "
            f"{LARGEST // GIBIBYTE} GiB; use a smaller --size or a --limit."
        )
