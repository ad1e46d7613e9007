"""Which reader a file is for, decided by what it holds and never by its name."""

from __future__ import annotations

import zipfile
from os import PathLike
from pathlib import Path

from . import keras_h5, safe_h5, torch_files
from .errors import BridgeError
from .source import Source

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"


def read(path: str | PathLike[str]) -> Source:
    """The weights in a file, lazily: "layer/role" -> array, and what the file says of itself.

    Takes Keras's HDF5 files of Keras 1 to 3, weights only and whole models (.h5), .safetensors and
    PyTorch's .pt and .pth. Refused: anything else, and files that are empty or broken off.
    """
    path = Path(path)
    start = _start(path)
    if start.startswith(safe_h5.SIGNATURE):
        return keras_h5.read(path)
    if start.startswith(ZIP):
        return _read_zip(path)
    if start[8:9] == b"{":
        return torch_files.read_safetensors(path)
    if start.startswith(PICKLE):
        return torch_files.read_pickled(path)
    raise BridgeError(
        f"{path} is not a weights file: it begins with {start[:8]!r}. Give a Keras .h5, a .safetensors or a .pt file."
    )


def _start(path: Path) -> bytes:
    try:
        if not path.exists():
            raise BridgeError(f"{path} does not exist. Check the path.")
        if not path.is_file():
            raise BridgeError(f"{path} is not a regular file. Give a Keras .h5, a .safetensors or a .pt file.")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}.") from error
    if not start:
        raise BridgeError(f"{path} is empty. Get the file again.")
    return start


def _read_zip(path: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
    except zipfile.BadZipFile as error:
        raise BridgeError(f"{path} is damaged ({error}). Get the file again.") from error
    if "config.json" in members:
        raise BridgeError(f"{path} is a Keras 3 archive. Save the model as HDF5 instead: model.save('model.h5').")
    return torch_files.read_pickled(path)
