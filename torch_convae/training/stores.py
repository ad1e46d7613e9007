"""Rows of tensors that are filled once and read often: in memory, or in files that are mapped into it."""

from __future__ import annotations

import json
import math
import mmap
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
    mappings: tuple[mmap.mmap, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.tensors[0].device

    def put(self, indices: Tensor, rows: Sequence[Tensor]) -> None:
        """Fill these rows."""
        place = indices.to(self.device)
        for tensor, values in zip(self.tensors, rows, strict=True):
            tensor[place] = values.to(self.device)
        self._forget()

    def take(self, indices: Tensor) -> list[Tensor]:
        """These rows of each tensor, by indices that lie where they do."""
        rows = [tensor.index_select(0, indices) for tensor in self.tensors]
        self._forget()
        return rows

    def _forget(self) -> None:
        """Leave files in the system's memory, which it takes back when it needs it, and not in this process's."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapping in self.mappings:
                mapping.madvise(mmap.MADV_DONTNEED)

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
    files = [_mapped(folder / f"{place}.bin", each, count) for place, each in enumerate(examples)]
    mappings = tuple(mapping for _, mapping in files if mapping is not None)
    return Store(key, tuple(tensor for tensor, _ in files), folder, complete, mappings)


def _mapped(path: Path, example: Tensor, count: int) -> tuple[Tensor, mmap.mmap | None]:
    shape = (count, *example.shape[1:])
    size = math.prod(shape) * example.element_size()
    if not size:
        return torch.empty(shape, dtype=example.dtype), None
    try:
        with path.open("a+b") as file:
            # Space is taken now: a full disk under a mapped file would kill the process.
            os.posix_fallocate(file.fileno(), 0, size)
            mapping = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise ConvaeError(
            f"{path} cannot be written: {error.strerror}. Free space, or compute features anew with --cache off."
        ) from error
    return torch.frombuffer(mapping, dtype=example.dtype).view(shape), mapping
