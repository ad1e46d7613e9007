"""Rows of tensors that are filled once and read often: in memory, or in files that are mapped into it."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConvaeError
from ..files import sync_folder, write_json

COMPLETE = "complete.json"  # written last: without it, what is in the files is worth nothing


@dataclass(frozen=True, eq=False)
class Store:
    """Tensors with so many rows each; `key` says what they were made of, and `folder` where their files lie."""

    key: str
    tensors: tuple[Tensor, ...]
    folder: Path | None
    complete: bool

    def put(self, indices: Tensor, rows: Sequence[Tensor]) -> None:
        """Fill these rows."""
        for tensor, values in zip(self.tensors, rows, strict=True):
            tensor[indices.to(tensor.device)] = values.to(tensor.device)

    def finish(self) -> None:
        """Let files outlast whatever comes."""
        if self.folder is None:
            return
        for path in self.folder.glob("*.bin"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        write_json(self.folder / COMPLETE, {"key": self.key})
        sync_folder(self.folder)


def in_memory(key: str, examples: Sequence[Tensor], count: int) -> Store:
    """An empty store for so many rows like that of each example (1, ...), where the examples lie."""
    tensors = (torch.empty((count, *each.shape[1:]), dtype=each.dtype, device=each.device) for each in examples)
    return Store(key, tuple(tensors), None, complete=False)


def in_files(key: str, examples: Sequence[Tensor], count: int, folder: Path) -> Store:
    """The same in files of a folder: complete if they were filled before for that key, else empty."""
    complete = (folder / COMPLETE).exists() and json.loads((folder / COMPLETE).read_text()) == {"key": key}
    if not complete:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    tensors = (_mapped(folder / f"{place}.bin", each, count) for place, each in enumerate(examples))
    return Store(key, tuple(tensors), folder, complete)


def _mapped(path: Path, example: Tensor, count: int) -> Tensor:
    shape = (count, *example.shape[1:])
    numbers = math.prod(shape)
    if not numbers:
        return torch.empty(shape, dtype=example.dtype)
    try:
        with path.open("ab") as file:
            # Space is taken now: a full disk under a mapped file would kill the process.
            os.posix_fallocate(file.fileno(), 0, numbers * example.element_size())
    except OSError as error:
        raise ConvaeError(
            f"{path} cannot be written: {error.strerror}. Free space, or compute features anew with --cache off."
        ) from error
    return torch.from_file(str(path), shared=True, size=numbers, dtype=example.dtype).view(shape)
