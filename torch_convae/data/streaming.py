"""A split that is read from its files while it is used, by processes beside the one that computes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import ConvaeError
from ..orphans import end_with

Pairs = tuple[Tensor, Tensor]
TARGETS = 64  # at a time
END = 2**15  # bytes
CPU = torch.device("cpu")
READER_IS_GONE = "DataLoader worker"  # how PyTorch's error begins, wherever the one that computes is


class Files(Protocol):
    """Examples in files, every image of the same shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pairs:
        """The image uint8 (C, H, W) and its target, exactly as they would be held in memory."""
        ...

    def made_of(self) -> Iterator[Path | int]:
        """Every file and class index that the examples come from, in order."""
        ...


@dataclass(frozen=True, eq=False)
class FileSplit:
    """What `Split` is in memory: the same images and targets, read anew each time by so many processes.

    With 0 the process that asks reads them itself.
    """

    files: Files
    workers: int
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return len(self.files), *self.files.shape

    def on(self, device: torch.device) -> FileSplit:
        """The same split, whose batches come to the device."""
        return replace(self, device=device)

    def all_targets(self) -> Iterator[Tensor]:
        """Every target once, in batches."""
        yield from (targets for _, targets, _ in self.batches(torch.split(torch.arange(len(self)), TARGETS)))

    def take(self, indices: Tensor) -> Pairs:
        """Images and targets of these indices, on the device."""
        images, targets = _together(self.files, indices.tolist())
        return images.to(self.device), targets.to(self.device)

    def fingerprint(self) -> str:
        """SHA-256 of the size, the beginning and the end of every file, and of the classes.

        Not of all that lies between: reading a large data set takes as long as an epoch.
        """
        digest = hashlib.sha256()
        for part in self.files.made_of():
            digest.update(_ends(part) if isinstance(part, Path) else str(part).encode())
        return f"files {digest.hexdigest()}"

    def batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images, targets and indices for each tensor of indices, on the device."""
        for indices, read in zip(order, self._read(order), strict=True):
            if isinstance(read, str):
                raise ConvaeError(read)
            images, targets = (each.to(self.device, non_blocking=True) for each in read)
            yield images, targets, indices

    def _read(self, order: Sequence[Tensor]) -> Iterator[Pairs | str]:
        with warnings.catch_warnings():
            # Python warns of any fork beside threads, but these only decode; and how many is the user's choice.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            return iter(
                DataLoader(
                    _Reading(self.files),
                    batch_sampler=[indices.tolist() for indices in order],
                    num_workers=self.workers,
                    # One of its own: the loader draws a number for its workers, which no other must miss.
                    generator=torch.Generator(),
                    collate_fn=_as_it_is,
                    pin_memory=self.device.type == "cuda",
                    worker_init_fn=_Alone(os.getpid()),
                    multiprocessing_context=_quickest() if self.workers else None,
                )
            )


class _Reading(Dataset[Pairs | str]):
    """Whole batches for the loader; what is wrong with a file comes back as text, not as another's traceback."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def __getitems__(self, indices: list[int]) -> Pairs | str:
        try:
            return _together(self.files, indices)
        except ConvaeError as problem:
            return str(problem)


def _ends(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(END)
            file.seek(max(size - END, 0))
            return str(size).encode() + start + file.read(END)
    except OSError as problem:
        raise ConvaeError(f"{path} cannot be read ({problem.strerror}); check path and permissions.") from problem


def _together(files: Files, indices: Sequence[int]) -> Pairs:
    images, targets = zip(*(files[index] for index in indices), strict=True)
    return torch.stack(images), torch.stack(targets)


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclass(frozen=True)
class _Alone:
    """What a reading process does first: signals are for its parent, and it ends when that one does."""

    parent: int

    def __call__(self, _: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with(self.parent)  # where it does nothing PyTorch looks for the parent every few seconds


def _quickest() -> str:
    """A fork has all that is imported already."""
    methods = multiprocessing.get_all_start_methods()
    return "fork" if "fork" in methods else methods[0]
