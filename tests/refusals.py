"""How a file of HDF5 is refused: in one line that a terminal prints as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge import BridgeError
from bridge.hdf5 import Dataset, open_file

Fill = Callable[[h5py.File], object]


def read_all(path: Path, **options: Any) -> None:
    """Ask for everything that a file has at its top."""
    file = open_file(path, **options)
    for name in [*file.root.refused, *file.root.datasets]:
        found = file.child(file.root, name)
        assert isinstance(found, Dataset)
        file.array(found)


def checked(error: BridgeError, path: Path) -> str:
    """A refusal's words: one line that names the file and that a terminal prints as it is."""
    line = str(error)
    assert line.startswith(str(path))
    assert line.isprintable()
    assert line.endswith(".")
    return line


def refusal(path: Path, **options: Any) -> str:
    """The one line with which reading everything in a file is refused."""
    with pytest.raises(BridgeError) as caught:
        read_all(path, **options)
    return checked(caught.value, path)
