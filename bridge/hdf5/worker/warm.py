"""A first description of a small file, after which the next ones are fast: what it needs is in memory."""

from __future__ import annotations

import io

import h5py
import numpy as np

from .describe import describe


def _small() -> bytes:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs["text"] = "text"
        file.attrs["names"] = [b"name"]
        file["group/numbers"] = np.zeros(1, np.float32)
    return made.getvalue()


_SMALL = _small()


def warm_up() -> None:
    """Describe a small file."""
    describe(io.BytesIO(_SMALL), len(_SMALL))
