"""The same data under other classes, and parts of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .dataset import VOID, DataSet, Split
from .streaming import Files, FileSplit

MOST = 256  # indices of a mask, `VOID` among them


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of the files, in the order of `indices`, their targets by a table where there is one."""

    files: Files
    indices: Sequence[int]
    table: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.files.shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = self.files[self.indices[index]]
        return image, target if self.table is None else mapped(target, self.table)

    def made_of(self) -> Iterator[Path | int]:
        """All of the files, which of them are chosen, and the table."""
        yield from self.files.made_of()
        yield from self.indices
        yield from [] if self.table is None else self.table.tolist()


def regrouped(data: DataSet, groups: Mapping[str, Sequence[str]]) -> DataSet:
    """The data with the classes `groups` names, each made of old ones; `VOID` stays what it is."""
    table = torch.full((max(MOST, len(data.classes)),), VOID)
    for new, olds in enumerate(groups.values()):
        for old in olds:
            table[data.classes.index(old)] = new
    splits = {name: _with_targets(split, table) for name, split in data.splits.items()}
    return replace(data, classes=tuple(groups), splits=splits)


def mapped(targets: Tensor, table: Tensor) -> Tensor:
    """Class indices by the table, of the type they had."""
    return table[targets.long()].to(targets.dtype)


def _with_targets(split: Split | FileSplit, table: Tensor) -> Split | FileSplit:
    if isinstance(split, FileSplit):
        return replace(split, files=Chosen(split.files, range(len(split)), table))
    targets = torch.cat([mapped(part, table) for part in torch.split(split.targets, 64)])
    return Split(split.images, targets)


def part(split: Split | FileSplit, indices: Sequence[int]) -> Split | FileSplit:
    """The examples of these indices, in this order."""
    if isinstance(split, FileSplit):
        return replace(split, files=Chosen(split.files, indices))
    return Split(*split.take(torch.tensor(indices)))
