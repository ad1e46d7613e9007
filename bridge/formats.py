"""Which reader a file is for, decided by what it holds and never by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from . import torch_files
from .arguments import check_path
from .errors import BridgeError, is_strange
from .files import tail
from .files.long_names import refuse_long
from .hdf5 import LARGEST, bytes_of, open_file, regular, shown
from .keras_files import archive, keras_0, keras_h5, keras_v3
from .layers.beside import Said
from .options import Options
from .source import Source

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
OF_KERAS = frozenset({keras_v3.CONFIG, keras_v3.METADATA, keras_v3.WEIGHTS})  # members of a .keras file
GIVE = "Give a Keras .h5, .weights.h5 or .keras, a .safetensors or a .pt file."


def read(
    path: str | PathLike[str],
    *,
    isolated: bool = True,
    largest: int = LARGEST,
    dim_ordering: str | None = None,
    kernels: str | None = None,
    flatten: Mapping[str, Said | None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Source:
    """The weights in a file, lazily: "layer/role" -> array, and what the file says of itself.

    Takes Keras's files of every version: HDF5 of Keras 0 to 3 (.h5, weights only and whole models), Keras 3's
    .weights.h5, .weights.json with its shards, .keras as an archive or a folder; and .safetensors and PyTorch's
    .pt and .pth. HDF5 crashes on damaged files, so it runs in a process of its own unless `isolated` is off.

    `dim_ordering` and `kernels`, "th" or "tf", say of an old file whether its channels come first and whether
    Theano wrote it, `flatten` which map was flattened in front of a layer, where the file does not. `config` is
    the model's, as `json.loads(model.to_json())` gives it, for a .weights.h5 without layer names.

    Refused: anything else, files that are empty, broken off or damaged, those that take or declare more than
    `largest` bytes, and names that are very long, that a terminal obeys or that would be one in a module.
    """
    _check(largest, flatten, config)
    if not check_path(path):
        raise BridgeError("The name of the file is empty, as an unset variable of a shell. Name a file.")
    path = Path(path)
    if os.path.isdir(path) and any((path / name).is_file() for name in OF_KERAS):  # noqa: PTH112 (Path's may raise)
        return named(keras_v3.read_folder(path, isolated=isolated, largest=largest))
    kind = _kind(path, largest)
    if kind == "HDF5":
        file = open_file(path, isolated=isolated, largest=largest)
        tail.check(file.content)
        if keras_0.is_keras_0(file):
            return named(keras_0.read(file, dim_ordering, kernels, flatten))
        if not keras_h5.is_legacy(file) and keras_v3.recognises(file.root):
            _refuse_old(path, dim_ordering, kernels)
            return named(keras_v3.read(file, config))
        return named(keras_h5.read(file, dim_ordering, kernels, flatten))
    _refuse_old(path, dim_ordering, kernels)
    if kind == "archive":
        tail.check(bytes_of(path))
        members = archive.members(path)
        if OF_KERAS & members.keys():
            return named(keras_v3.read_archive(path, isolated=isolated, largest=largest, members=members))
        return named(torch_files.read_pickled(path, members=members))
    if kind == "shards":
        return named(keras_v3.read_shards(path, isolated=isolated, largest=largest, config=config))
    return named((torch_files.read_safetensors if kind == "safetensors" else torch_files.read_pickled)(path))


def _check(largest: Any, flatten: Any, config: Any) -> None:
    """Refuse options of another form than theirs."""
    if isinstance(largest, bool) or not isinstance(largest, int):
        raise BridgeError(f"largest is {largest!r}, but should be a number of bytes: 4 * 2**30.")
    if config is not None and not isinstance(config, Mapping):
        raise BridgeError("config is no mapping. Give json.loads(model.to_json()).")
    Options.of({"flatten": flatten or {}})


def _refuse_old(path: Path, dim_ordering: str | None, kernels: str | None) -> None:
    for option, value in (("dim_ordering", dim_ordering), ("kernels", kernels)):
        if value is not None:
            raise BridgeError(f"{path}: {option} is for files of Keras 0 and 1, and this is none. Leave it out.")


def named(source: Source) -> Source:
    """The same source. Refused: long names, those that a terminal obeys, and two that would be one in a module."""
    refuse_long(source, source.path)
    taken: dict[str, str] = {}
    for key in source:
        if not key.isprintable() and (strange := next((each for each in key if is_strange(each)), None)):
            raise BridgeError(
                f"{source.path} names a weight {shown(key)}, with {strange!r} in it. Get the file from its author."
            )
        other = taken.setdefault(key.replace("/", "."), key)
        if other != key:
            raise BridgeError(
                f"{source.path}: {shown(other)} and {shown(key)} would both be {shown(key.replace('/', '.'))} "
                "in a module. Rename one of the layers."
            )
    return source


def _kind(path: Path, largest: int) -> str:
    """What a file is; one that is none of these, empty, or of more than `largest` bytes is refused."""
    descriptor = regular(path)
    try:
        start, size = os.read(descriptor, 16), os.fstat(descriptor).st_size
        kind = _recognised(start, descriptor, size)
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)
    if not start or not size:
        raise BridgeError(f"{path} is empty. Get the file again.")
    if kind is None:
        raise BridgeError(f"{path} is not a weights file: it begins with {start[:8]!r}. {GIVE}")
    if size > largest:
        raise BridgeError(
            f"{path} takes {size} bytes, more than the limit of {largest}. Get the file from its author, or read it "
            "with a larger limit: read(path, largest=...)."
        )
    return kind


def _recognised(start: bytes, descriptor: int, size: int) -> str | None:
    """By its first bytes; those in front of HDF5 may be anything, but then they are no archive or the like."""
    said = int.from_bytes(start[:8], "little")
    if start.startswith(HDF5):
        return "HDF5"
    if start.startswith(ZIP):
        return "archive"
    if start[8:9] == b"{" and said < size:
        return "safetensors"
    if _is_behind_a_user_block(descriptor, size):
        return "HDF5"
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(PICKLE):
        return "pickle"
    return "shards" if start.lstrip().startswith(b"{") else None


def _is_behind_a_user_block(descriptor: int, size: int) -> bool:
    """Whether HDF5 begins behind somebody's own bytes, which take 512 or a power of two times as many."""
    place = 512
    while place < size:
        if os.pread(descriptor, len(HDF5), place) == HDF5:
            return True
        place *= 2
    return False
