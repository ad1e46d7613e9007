"""Which reader a file is for, decided by what it holds and never by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from . import tail, torch_files
from .errors import BridgeError
from .hdf5 import LARGEST, open_file, regular
from .keras_files import archive, keras_0, keras_h5, keras_v3
from .source import Shape, Source

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
USER_BLOCKS = tuple(512 << power for power in range(8))  # where HDF5 may begin behind somebody's own bytes
OF_KERAS = frozenset({keras_v3.CONFIG, keras_v3.METADATA, keras_v3.WEIGHTS})  # members of a .keras file
GIVE = "Give a Keras .h5, .weights.h5 or .keras, a .safetensors or a .pt file."


def read(
    path: str | PathLike[str],
    *,
    isolated: bool = True,
    largest: int = LARGEST,
    dim_ordering: str | None = None,
    kernels: str | None = None,
    flatten: Mapping[str, Shape | None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Source:
    """The weights in a file, lazily: "layer/role" -> array, and what the file says of itself.

    Takes Keras's files of every version: HDF5 of Keras 0 to 3 (.h5, weights only and whole models), Keras 3's
    .weights.h5, .weights.json with its shards, .keras as an archive or a folder; and .safetensors and PyTorch's
    .pt and .pth. HDF5 crashes on damaged files, so it runs in a process of its own unless `isolated` is off.

    `dim_ordering` and `kernels`, "th" or "tf", say of an old file whether its channels come first and whether
    Theano wrote it, `flatten` which map was flattened in front of a layer, where the file does not. `config` is
    the model's, as `json.loads(model.to_json())` gives it, for a .weights.h5 without layer names.

    Refused: anything else, files that are empty, broken off or damaged, and those that declare more than
    `largest` bytes of weights.
    """
    path = Path(path)
    if os.path.isdir(path) and any((path / name).is_file() for name in OF_KERAS):  # noqa: PTH112 (Path's may raise)
        return keras_v3.read_folder(path, isolated=isolated, largest=largest)
    start = _start(path)
    if start.startswith(HDF5) or _behind_a_user_block(path):
        file = open_file(path, isolated=isolated, largest=largest)
        tail.check(file.content)
        if keras_0.is_keras_0(file):
            return keras_0.read(file, dim_ordering, kernels, flatten)
        if not keras_h5.is_legacy(file) and keras_v3.recognises(file.root):
            return keras_v3.read(file, config)
        return keras_h5.read(file, dim_ordering, kernels, flatten)
    if start.startswith(ZIP):
        if OF_KERAS & archive.members(path).keys():
            return keras_v3.read_archive(path, isolated=isolated, largest=largest)
        return torch_files.read_pickled(path, largest)
    if start[8:9] == b"{":
        return torch_files.read_safetensors(path)
    if start.startswith(PICKLE):
        return torch_files.read_pickled(path, largest)
    if start.lstrip().startswith(b"{"):
        return keras_v3.read_shards(path, isolated=isolated, largest=largest, config=config)
    raise BridgeError(f"{path} is not a weights file: it begins with {start[:8]!r}. {GIVE}")


def _start(path: Path) -> bytes:
    descriptor = regular(path)
    try:
        start = os.read(descriptor, 16)
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)
    if not start:
        raise BridgeError(f"{path} is empty. Get the file again.")
    return start


def _behind_a_user_block(path: Path) -> bool:
    with path.open("rb") as file:
        for offset in USER_BLOCKS:
            file.seek(offset)
            if file.read(len(HDF5)) == HDF5:
                return True
    return False
