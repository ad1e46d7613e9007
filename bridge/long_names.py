"""Names that are longer than any layer's are refused as they are read: what follows takes each name several times."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import BridgeError
from .hdf5 import shown

LONGEST = 1000  # characters; a layer seven models deep takes 200


def refuse_long(names: Iterable[str], where: object) -> None:
    """Refuse names of more than `LONGEST` characters; `where` is what gives them."""
    for name in names:
        if len(name) > LONGEST:
            raise BridgeError(
                f"{where} names a weight {shown(name)}, of {len(name)} characters, more than {LONGEST}. "
                "Get the file from its author."
            )
