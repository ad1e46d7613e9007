"""What reads HDF5. It imports NumPy, h5py and nothing else from outside this folder: a process of it starts fast."""

from __future__ import annotations

from typing import Any

from .content import Content, Unusable
from .describe import describe
from .fetch import fetch


def answer(descriptor: int, request: dict[str, Any], into: Any = None) -> tuple[Any, str | None]:
    """The tree that is asked for, or None once a data set's bytes are in `into`; else the reason why not."""
    content = Content(descriptor, request["start"], request["size"])
    try:
        if "names" not in request:
            return describe(content, content.size), None
        fetch(content, request["names"], request["described"], into)
    except Unusable as error:
        return None, str(error)
    return None, None
