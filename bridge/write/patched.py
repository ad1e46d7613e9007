"""A Keras file with other numbers: byte for byte the file it is like, except for its weights."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from .. import tail
from ..errors import BridgeError
from ..source import Array, Source

WEIGHTS = "model.weights.h5"  # the member of a .keras archive


def write_file(like: Source, arrays: Mapping[str, Tensor], path: Path) -> None:
    """The HDF5 file of `like`, a file of its own or a member of an archive, with these arrays."""
    with path.open("r+b") as file:
        _copy_weights(like, file)
        _replace(like, arrays, file)
    tail.append(path)


def write_archive(like: Source, arrays: Mapping[str, Tensor], path: Path) -> None:
    """The .keras archive of `like` with these arrays; configuration and assets stay as they are."""
    assert like.path is not None
    with zipfile.ZipFile(like.path) as given, zipfile.ZipFile(path, "w") as written:
        for member in given.infolist():
            with written.open(zipfile.ZipInfo(member.filename, member.date_time), "w", force_zip64=True) as target:
                if member.filename != WEIGHTS:
                    with given.open(member) as source:
                        shutil.copyfileobj(source, target)
                    continue
                with TemporaryFile(dir=path.parent) as weights:
                    _copy_weights(like, weights)
                    _replace(like, arrays, weights)
                    weights.seek(0)
                    shutil.copyfileobj(weights, target)


def _copy_weights(like: Source, target: IO[bytes]) -> None:
    assert like.path is not None
    if not zipfile.is_zipfile(like.path):
        with like.path.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
            target.truncate(tail.body_of(source.fileno(), 0, target.tell()))  # a digest of other numbers
        return
    with zipfile.ZipFile(like.path) as archive, archive.open(WEIGHTS) as source:
        shutil.copyfileobj(source, target, 1 << 20)


def _replace(like: Source, arrays: Mapping[str, Tensor], file: IO[bytes]) -> None:
    for key, tensor in arrays.items():
        stored = like.stored[key]
        if stored.region is None:
            raise BridgeError(
                f"{like.name} keeps {key} compressed or in the manner of an old Keras. Load and save it with today's "
                f"Keras, and write like that file."
            )
        offset, dtype = stored.region
        file.seek(offset)
        file.write(_encoded(tensor, dtype).tobytes())
    file.flush()
    os.fsync(file.fileno())


def _encoded(tensor: Tensor, dtype: str) -> Array:
    """The numbers in the file's own type."""
    if dtype == "bfloat16":
        return tensor.to(torch.bfloat16).view(torch.int16).numpy()
    return np.asarray(tensor.numpy()).astype(dtype)
