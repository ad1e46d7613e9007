"""A folder of sequences: `train/sequences/NAME/` holds one's frames, `train/targets.csv` its values; `test` alike."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConvaeError
from .dataset import DataSet, Split
from .folders import frames, split_folders, subfolders
from .image_stack import Form, common_form, read_formed
from .memory import FROM_FILES, refuse_too_large
from .request import Request, refuse_void
from .selection import hold_out, spread
from .streaming import FileSplit

TARGETS = "targets.csv"


@dataclass(frozen=True)
class Sequence:
    """The files of its frames in the order of the numbers in their names, and the values that are to be said of it."""

    name: str
    frames: tuple[Path, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class SequenceFiles:
    """What `FileSplit` reads: frames (T, C, H, W) and values float32 (K,)."""

    sequences: list[Sequence]
    form: Form

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C, H, W)."""
        return len(self.sequences[0].frames), *self.form.shape

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sequence = self.sequences[index]
        frames = torch.stack([read_formed(path, self.form)[0] for path in sequence.frames])
        return frames, torch.tensor(sequence.values)

    def made_of(self) -> Iterator[Path | int]:
        """Every frame, and a number for the values of each sequence."""
        for sequence in self.sequences:
            yield from sequence.frames
            yield hash(sequence.values)  # of numbers alone, so the same in every process


def load_sequence_folder(folder: Path, request: Request) -> DataSet:
    """Sequences uint8 (N, T, C, H, W), all of one length, with values float32 (N, K) named by the CSV's header.

    Without `test`, `val` serves as test; without both, a seeded fifth of train does.
    """
    refuse_void(request)
    found = {name: _split(path) for name, path in split_folders(folder).items()}
    names = {name: values for name, (values, _) in found.items()}
    for split, values in names.items():
        if values != names["train"]:
            raise ConvaeError(
                f"{folder / split / TARGETS} has the columns {', '.join(values)}, that of train "
                f"{', '.join(names['train'])}; give both the same."
            )
    sequences = _held_out({name: each for name, (_, each) in found.items()}, folder, request.seed)
    sequences = {name: [each[index] for index in spread(len(each), request.limit)] for name, each in sequences.items()}
    _refuse_unequal([one for each in sequences.values() for one in each])
    form = common_form([path for each in sequences.values() for one in each for path in one.frames], request.size)
    files = {name: SequenceFiles(each, form) for name, each in sequences.items()}
    if request.workers is not None:
        streamed = {name: FileSplit(each, request.workers) for name, each in files.items()}
        return DataSet(folder.resolve().name, "sequences", names["train"], streamed)
    frames = sum(len(one.frames) for each in sequences.values() for one in each)
    refuse_too_large(folder, frames * form.byte_count, FROM_FILES)
    held = {name: _held(each) for name, each in files.items()}
    return DataSet(folder.resolve().name, "sequences", names["train"], held)


def _held(files: SequenceFiles) -> Split:
    images = torch.empty((len(files), *files.shape), dtype=torch.uint8)
    for index in range(len(files)):
        images[index], _ = files[index]
    return Split(images, torch.tensor([sequence.values for sequence in files.sequences]))


def _split(split: Path) -> tuple[tuple[str, ...], list[Sequence]]:
    """The names of the values, and the sequences of one split."""
    names, values = _targets(split / TARGETS)
    if not (split / "sequences").is_dir():
        raise ConvaeError(f"{split / 'sequences'} is missing; give each sequence a folder of frames there.")
    folders = {path.name: path for path in subfolders(split / "sequences")}
    for here, there, where in ((folders, values, split / TARGETS), (values, folders, split / "sequences")):
        if missing := sorted(here.keys() - there.keys()):
            raise ConvaeError(f"The sequence {missing[0]} is missing in {where}; add it there, or remove the other.")
    if not folders:
        raise ConvaeError(f"{split / 'sequences'} holds no sequence; give each a folder of frames there.")
    return names, [Sequence(name, tuple(frames(path)), values[name]) for name, path in folders.items()]


def _targets(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[float, ...]]]:
    if not path.is_file():
        raise ConvaeError(f"{path} is missing; write a line sequence,NAME,.. and one with the values of each sequence.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise ConvaeError(f"{path} cannot be read ({problem}); save it as CSV in UTF-8.") from problem
    if len(header) < 2 or header[0].strip() != "sequence":
        raise ConvaeError(f"{path} must begin with a line sequence,NAME,..: the sequence's folder, and its values.")
    values: dict[str, tuple[float, ...]] = {}
    for number, (name, *texts) in enumerate(lines, start=2):
        if name in values:
            raise ConvaeError(f"{path} has the sequence {name} twice; keep one line of it.")
        values[name] = _numbers(path, number, texts, len(header) - 1)
    return tuple(name.strip() for name in header[1:]), values


def _numbers(path: Path, line: int, texts: list[str], due: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError as problem:
        raise ConvaeError(f"{path} has no number in line {line}: {', '.join(texts)}; correct it.") from problem
    if len(numbers) != due or not all(map(math.isfinite, numbers)):
        raise ConvaeError(f"{path} should have {due} numbers in line {line}, not {', '.join(texts)}; correct it.")
    return numbers


def _held_out(found: dict[str, list[Sequence]], folder: Path, seed: int) -> dict[str, list[Sequence]]:
    if "test" in found:
        return found
    everything = found["train"]
    if len(everything) < 2:
        raise ConvaeError(f"{folder / 'train'} holds one sequence and there is no test; add sequences, or a test.")
    train, test = hold_out(len(everything), seed)
    return {"train": [everything[index] for index in train], "test": [everything[index] for index in test]}


def _refuse_unequal(sequences: list[Sequence]) -> None:
    first = sequences[0]
    for sequence in sequences:
        if len(sequence.frames) != len(first.frames):
            raise ConvaeError(
                f"{sequence.frames[0].parent} has {len(sequence.frames)} frames but {first.frames[0].parent} "
                f"{len(first.frames)}; cut all sequences to one length."
            )
