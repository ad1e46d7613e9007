"""Names that are longer than any layer's are refused as they are read: what follows takes each name several times."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BridgeError
from ..hdf5 import shown

LONGEST = 20_000  # characters; Keras itself writes names of some thousands where it is told to


def refuse_long(names: Iterable[str], where: object) -> None:
    """Refuse names of more than `LONGEST` characters; `where` is what gives them."""
    for name in names:
        if len(name) > LONGEST:
            raise BridgeError(
                f"{where} names a weight {shown(name)}, of {len(name)} characters, more than {LONGEST}. "
                "Get the file from its author."
            )
