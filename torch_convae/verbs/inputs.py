"""Files and folders on the command line as images for a network, batch by batch; what cannot be read is listed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, _imaging
from torch import Tensor
from tqdm import tqdm

from ..data.folders import JUNK_NAMES, JUNK_SUFFIXES
from ..errors import ConvaeError, one_line
from .outputs import mark_in

BLOCK = 64 * 2**20  # bytes: more than glibc ever keeps for a thread
OF_FEATURES = (".npz", ".safetensors")
READERS = 4  # threads that decode while the network computes
Value = TypeVar("Value")


@dataclass(frozen=True)
class Item:
    """One input, and what its outputs are called: its path below the folder that was named."""

    path: Path
    name: str


@dataclass
class Failures:
    """The inputs that could not be used, each with its one line."""

    lines: list[str] = field(default_factory=list)

    def add(self, error: Exception) -> None:
        """Keep the line for the end; the others go on."""
        self.lines.append(one_line(str(error), names=True))

    @contextmanager
    def of(self, batch: Sequence[Item]) -> Iterator[None]:
        """A network that refuses a batch, for its size, refuses each input of it; the others go on."""
        try:
            yield
        except ConvaeError as error:
            for item in batch:
                text = str(error)
                self.lines.append(one_line(text if text.startswith(f"{item.path} ") else f"{item.path}: {text}", True))

    def all_of_them(self) -> str:
        """What to say where no input could be used."""
        first, others = self.lines[0], len(self.lines) - 1
        return f"{first} So it is with {others} others: nothing is left." if others else first


def items(arguments: Sequence[str]) -> list[Item]:
    """The files that are named, and those below the folders that are named, in order, each once.

    In folders, what is hidden, notes and desktop files, what is no regular file, and what a command like this one made
    are left out, and links to folders are not followed. A folder without any image is refused.
    """
    found: dict[Path, Item] = {}
    for argument in arguments:
        path = Path(argument)
        below = _below(path) if path.is_dir() else [Item(path, path.name)]
        if not below:
            raise ConvaeError(f"{path} holds no images. Name a folder with some, or files.")
        found |= {item.path: item for item in below if item.path not in found}
    return list(found.values())


def sequences(arguments: Sequence[str]) -> list[Item]:
    """The .npy arrays (T, H, W, C) that are named, and the folders of frames: a folder of folders is one each."""
    found: dict[Path, Item] = {}
    for argument in arguments:
        path = Path(argument)
        inner = sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else []
        each = [one for one in inner if one.is_dir() or one.suffix.lower() == ".npy"] or [path]
        if each != [path] and (loose := [one for one in inner if one not in each and not _is_junk(one)]):
            raise ConvaeError(f"{loose[0]} lies beside {each[0]}: frames or sequences? Move one of them away.")
        found |= {one: Item(one, one.name) for one in each if one not in found}
    return list(found.values())


def _below(folder: Path) -> list[Item]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and mark_in(Path(place, one)) is None)
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and not _is_junk(path) and (path.is_file() or path.is_symlink()):
                found.append(Item(path, str(path.relative_to(folder))))
    return found


def _is_junk(path: Path) -> bool:
    return path.name.lower() in JUNK_NAMES or path.suffix.lower() in (*JUNK_SUFFIXES, *OF_FEATURES)


def read_all(
    given: Sequence[Item], read: Callable[[Item], Tensor], failures: Failures, batch_size: int
) -> Iterator[tuple[list[Item], Tensor]]:
    """Batches of inputs in order, read ahead by threads; neighbours of one shape share a batch.

    What `read` refuses is listed in `failures`. A bar shows how far it is, where somebody watches.
    """

    def attempt(item: Item) -> Tensor | ConvaeError:
        try:
            return read(item)
        except ConvaeError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool, tqdm(total=len(given), unit="image", leave=False, disable=None) as bar:
        for group in _ahead(pool, given, attempt, batch_size):
            good = []
            for item, result in group:
                if isinstance(result, ConvaeError):
                    failures.add(result)
                else:
                    good.append((item, result))
            for _, same in groupby(good, key=lambda pair: pair[1].shape):
                alike = list(same)
                yield [item for item, _ in alike], torch.stack([tensor for _, tensor in alike])
            bar.update(len(group))


def _ahead(
    pool: ThreadPoolExecutor, given: Sequence[Item], read: Callable[[Item], Value], size: int
) -> Iterator[list[tuple[Item, Value]]]:
    """Groups of inputs with what was read of them; the next group is read while one is worked on."""
    reading: deque[list[tuple[Item, Future[Value]]]] = deque()
    for start in range(0, len(given), size):
        reading.append([(item, pool.submit(read, item)) for item in given[start : start + size]])
        if len(reading) > 1:
            yield [(item, result.result()) for item, result in reading.popleft()]
    for group in reading:
        yield [(item, result.result()) for item, result in group]


@contextmanager
def any_size() -> Iterator[None]:
    """Pillow's own limit on pixels, which is one for all of a process, gives way to ours, which is a choice.

    Pixels are then kept in blocks so large that the system takes them back at once: smaller ones stay with the thread
    that had them, and with four threads the memory of four images would be held, though one alone is open. Pillow's
    public way to say so, an environment variable, is read once, when a program imports it.
    """
    before, block = Image.MAX_IMAGE_PIXELS, _imaging.get_block_size()
    Image.MAX_IMAGE_PIXELS = None
    _imaging.set_block_size(BLOCK)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        _imaging.set_block_size(block)
