"""A run is a folder: its configuration, figures, checkpoints, weights, pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ConvaeError
from ..files import read_json, write_json, write_lines, write_whole
from .archive import read_archive, write_archive
from .checkpoint import Checkpoint

CONFIG, LOCK = "config.json", ".lock"
LAST, PREVIOUS, GOOD = (f"checkpoint{kind}.safetensors" for kind in ("", ".previous", ".good"))
FEATURES, TENSORBOARD = "features", "tensorboard"  # folders
MADE = (
    "summary.json",
    "metrics.jsonl",
    LAST,
    PREVIOUS,
    GOOD,
    "model.safetensors",
    "weights.json",
    "outline.json",
    "confusion.json",
    "report.html",
    "curves.png",
    "reconstructions.png",
    "confusion.png",
    "masks.png",
    "values.png",
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
    def features(self) -> Path:
        """Where features of frozen parts lie that do not fit into memory."""
        return self.path / FEATURES

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
        if fresh and begun:
            shutil.rmtree(self.features, ignore_errors=True)
            shutil.rmtree(self.path / TENSORBOARD, ignore_errors=True)
        if begun and not fresh:
            _refuse_other(self.path, read_json(self.path / CONFIG), config)
        else:
            write_json(self.path / CONFIG, config)

    def save(self, checkpoint: Checkpoint, history: list[dict[str, Any]], good: bool = False) -> None:
        """Keep where the run is. The checkpoint before stays beside it, and so does the last that is called good."""
        self.log(history)
        last = self.path / LAST
        write_whole(last, partial(write_archive, checkpoint), aside=self.path / PREVIOUS)
        if good:
            write_whole(self.path / GOOD, partial(_same_file, last))

    def log(self, history: list[dict[str, Any]]) -> None:
        """Keep the figures of each epoch, a line each."""
        write_lines(self.path / "metrics.jsonl", history)

    def restore(self) -> Checkpoint | None:
        """The last checkpoint that is whole; None where there is none."""
        found = [path for path in (self.path / LAST, self.path / PREVIOUS) if path.exists()]
        for index, path in enumerate(found):
            if (checkpoint := read_archive(path)) is not None:
                for damaged in found[:index]:  # else the next save would put it in the place of a whole one
                    damaged.unlink()
                return checkpoint
        if found:
            raise ConvaeError(f"{found[0]} is damaged, and so is any before. Start over with --fresh.")
        return None

    def good(self) -> Checkpoint | None:
        """The last checkpoint that was called good, if it is whole."""
        return read_archive(self.path / GOOD)


def _same_file(path: Path, beside: Path) -> None:
    """A second name for a file, or where the disk knows no such thing, a copy."""
    try:
        os.link(path, beside)
    except OSError:
        shutil.copyfile(path, beside)


def _refuse_other(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    if changed:
        raise ConvaeError(
            f"{path} holds a run with other options ({'; '.join(changed)}). Name another --out, or start over"
            " with --fresh."
        )
