"""A run is a folder: its configuration, figures, checkpoints, weights, pictures."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from ..errors import ConvaeError
from ..files import read_json, write_json, write_lines, write_whole
from .checkpoint import Checkpoint

CONFIG, LOCK = "config.json", ".lock"
MADE = (
    "summary.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "model.safetensors",
    "weights.json",
    "outline.json",
    "confusion.json",
    "report.html",
    "curves.png",
    "reconstructions.png",
    "confusion.png",
    "masks.png",
)


@dataclass(frozen=True)
class Folder:
    """The paths of a run, and writing to them so that each file is whole at any moment."""

    path: Path

    @property
    def summary(self) -> Path:
        """The final figures; it exists once a run is complete."""
        return self.path / "summary.json"

    @property
    def begun(self) -> bool:
        """Whether a run was begun here; another program's config.json is none of ours."""
        try:
            return "recipe" in read_json(self.path / CONFIG)
        except ConvaeError:
            return False

    def begin(self, config: Mapping[str, Any], fresh: bool) -> None:
        """Begin here, or go on; a run of another configuration is refused, unless `fresh` removes what it made.

        A folder that holds anything else, but no run, is refused in any case.
        """
        begun = self.begun
        for name in (CONFIG, *MADE):  # what a killed process was about to write
            for entry in self.path.glob(f".{name}.[0-9]*{Path(name).suffix}"):
                entry.unlink()
        if not begun and (strange := sorted(entry.name for entry in self.path.iterdir() if entry.name != LOCK)):
            raise ConvaeError(f"{self.path} holds {strange[0]}, but no run. Name another --out.")
        for name in MADE if fresh else ():  # a file that is not ours stays, even then
            (self.path / name).unlink(missing_ok=True)
        if begun and not fresh:
            _refuse_other(self.path, read_json(self.path / CONFIG), config)
        else:
            write_json(self.path / CONFIG, config)

    def save(self, checkpoint: Checkpoint, history: list[dict[str, Any]]) -> None:
        """Keep where the run is; the checkpoint before stays beside it."""
        last, previous = self._checkpoints()
        write_lines(self.path / "metrics.jsonl", history)
        if last.exists():
            write_whole(previous, lambda beside: shutil.copyfile(last, beside))
        write_whole(last, lambda beside: torch.save(checkpoint, beside))

    def restore(self) -> Checkpoint | None:
        """The last good checkpoint; None where there is none."""
        found = [path for path in self._checkpoints() if path.exists()]
        readable = (saved for path in found if (saved := _load(path)) is not None)
        checkpoint = next(readable, None)
        if found and checkpoint is None:
            raise ConvaeError(f"{found[0]} is damaged, and so is any before. Start over with --fresh.")
        return checkpoint

    def _checkpoints(self) -> tuple[Path, Path]:
        return self.path / "checkpoint.pt", self.path / "checkpoint.previous.pt"


def _load(path: Path) -> Checkpoint | None:
    """A checkpoint, tensors and plain values only; None for one that is damaged."""
    try:
        with ZipFile(path) as file:
            if file.testzip() is not None:  # torch.load does not look at the checksums that torch.save wrote
                return None
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception:  # torch.load raises whatever the damaged bytes lead to
        return None


@contextmanager
def locked(path: Path) -> Iterator[Folder]:
    """The folder, made if need be, for this process alone. Where no run begins, nothing of it stays."""
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("w")
    except OSError as error:
        raise ConvaeError(f"{path} cannot be written: {error.strerror}. Name another --out.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConvaeError(f"Another run is going on in {path}. Wait for it, or name another --out.") from error
        folder = Folder(path)
        try:
            yield folder
        finally:
            if not folder.begun:
                _remove(path / LOCK, made)


def _remove(lock: Path, folders: Iterable[Path]) -> None:
    lock.unlink(missing_ok=True)
    with suppress(OSError):  # one that someone else put a file into stays
        for folder in folders:
            folder.rmdir()


def _refuse_other(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    if changed:
        raise ConvaeError(
            f"{path} holds a run with other options ({'; '.join(changed)}). Name another --out, or start over"
            " with --fresh."
        )
