"""A Keras file with other numbers: byte for byte the file it is like, except for its weights."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..errors import BridgeError
from ..files import tail
from ..source import Array, Source

WEIGHTS = "model.weights.h5"  # the member of a .keras archive
BLOCK = 1 << 20

Changes = list[tuple[int, str, Tensor]]  # where in the HDF5 file, in which type, which numbers


def write_file(like: Source, arrays: Mapping[str, Tensor], path: Path) -> None:
    """The HDF5 file of `like`, a file of its own or a member of an archive, with these arrays."""
    assert like.path is not None
    changes = _changes(like, arrays)
    with path.open("wb") as target:
        if like.path.is_file() and like.format == "keras-v3-archive":
            with zipfile.ZipFile(like.path) as archive, archive.open(WEIGHTS) as source:
                _copy(source, target, archive.getinfo(WEIGHTS).file_size, changes)
        else:
            file = like.path / WEIGHTS if like.path.is_dir() else like.path
            with file.open("rb") as source:
                size = file.stat().st_size
                _copy(source, target, tail.body_of(source.fileno(), 0, size), changes)  # a digest is of other numbers
    tail.append(path)


def write_archive(like: Source, arrays: Mapping[str, Tensor], path: Path) -> None:
    """The .keras archive of `like` with these arrays; configuration and assets stay as they are."""
    assert like.path is not None
    changes = _changes(like, arrays)
    with zipfile.ZipFile(path, "w") as written:
        if like.path.is_dir():
            for file in sorted(each for each in like.path.rglob("*") if each.is_file()):
                name = file.relative_to(like.path).as_posix()
                with file.open("rb") as source, written.open(name, "w", force_zip64=True) as target:
                    _copy(source, target, file.stat().st_size, changes if name == WEIGHTS else [])
        else:
            with zipfile.ZipFile(like.path) as given:
                for member in given.infolist():
                    named = zipfile.ZipInfo(member.filename, member.date_time)
                    with given.open(member) as source, written.open(named, "w", force_zip64=True) as target:
                        _copy(source, target, member.file_size, changes if member.filename == WEIGHTS else [])
    tail.append(path)


def _changes(like: Source, arrays: Mapping[str, Tensor]) -> Changes:
    """What changes, in the file's order; of tied weights, which lie in one place, the last."""
    found: dict[int, tuple[int, str, Tensor]] = {}
    for key, tensor in arrays.items():
        for stored in (like.stored[key], *([like.twins[key]] if key in like.twins else [])):
            if stored.region is None:
                raise BridgeError(
                    f"{like.name} keeps {key} compressed or in the manner of an old Keras. Load and save it with "
                    f"today's Keras, and write like that file."
                )
            found[stored.region[0]] = (*stored.region, tensor)
    return [found[offset] for offset in sorted(found)]


def _copy(source: IO[bytes], target: IO[bytes], size: int, changes: Changes) -> None:
    """The source's first `size` bytes, with other numbers where something changes."""
    place = 0
    for offset, dtype, tensor in changes:
        _pass(source, target, offset - place)
        data = _encoded(tensor, dtype).tobytes()
        target.write(data)
        _pass(source, None, len(data))
        place = offset + len(data)
    _pass(source, target, size - place)


def _pass(source: IO[bytes], target: IO[bytes] | None, count: int) -> None:
    while count > 0 and (block := source.read(min(count, BLOCK))):
        count -= len(block)
        if target is not None:
            target.write(block)


def _encoded(tensor: Tensor, dtype: str) -> Array:
    """The numbers in the file's own type."""
    if dtype == "bfloat16":
        return tensor.to(torch.bfloat16).view(torch.int16).numpy()
    return np.asarray(tensor.numpy()).astype(dtype)
