"""A run's folder as a value: what a report is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConvaeError
from ..files import read_json

PNG = b"\x89PNG\r\n\x1a\n"
DRAWN = frozenset({"curves.png", "confusion.png"})  # what the page draws itself, in its own colours
LARGEST_PICTURE = 16 * 2**20


@dataclass(frozen=True)
class Record:
    """One run, as its folder tells it. What a run has not come to yet, or was never asked for, is empty.

    `history` holds the lines of metrics.jsonl, `stages` the results of those that are done, `figures` the final ones.
    """

    folder: Path
    label: str
    config: dict[str, Any]
    outline: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    weights: dict[str, Any]
    confusion: dict[str, Any]
    pictures: dict[str, bytes]

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """What is known of each stage: as planned, and as done."""
        planned = {stage["name"]: stage for stage in self.outline.get("stages", ())}
        done = self.summary.get("stages", {})
        return {name: planned.get(name, {}) | done.get(name, {}) for name in dict.fromkeys([*planned, *done])}

    @property
    def figures(self) -> dict[str, float]:
        """The final figures by name: of the complete run, else of its last epoch."""
        final = self.summary or (self.history[-1] if self.history else {})
        return {name: value for name, value in final.items() if name.startswith(("val_", "test_")) and _numeric(value)}

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, with what the recipe chose where it was left to it."""
        chosen = self.outline.get("settings", {})
        return {key: chosen.get(key) if value is None else value for key, value in self.config.items()}


def read_runs(folders: Sequence[Path]) -> list[Record]:
    """The records of these folders, each under the shortest name that tells it from the others."""
    resolved = [folder.resolve() for folder in folders]
    if twice := next(
        (folder for folder, path in zip(folders, resolved, strict=True) if resolved.count(path) > 1), None
    ):
        raise ConvaeError(f"{twice} is named twice. Name each run once.")
    return [_read(folder, label) for folder, label in zip(folders, _labels(resolved), strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """As many last parts of each path as tell it from the others."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        labels = [str(Path(*path.parts[-count:])) for path in paths]
        if len(set(labels)) == len(paths):
            break
    return labels


def _read(folder: Path, label: str) -> Record:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ConvaeError(f"{folder} {what}. Name the folder of a run, as runs/convae.")
    config = _json(folder / "config.json")
    if "recipe" not in config:
        raise ConvaeError(f"{folder} holds no run: there is no recipe in a config.json. Name the folder of a run.")
    record = Record(
        folder,
        label,
        config,
        _json(folder / "outline.json"),
        _lines(folder / "metrics.jsonl"),
        _json(folder / "summary.json"),
        _json(folder / "weights.json"),
        _json(folder / "confusion.json"),
        _pictures(folder),
    )
    _check(record)
    return record


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.exists():
        return ()
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConvaeError(f"{path} is not readable: {error}. Start the run over with --fresh.") from error
    if not all(isinstance(line, dict) for line in lines):
        raise ConvaeError(f"{path} is not what a run writes: each line should be a JSON object.")
    return tuple(line for line in lines if "stage" in line and "epoch" in line)


def _pictures(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        if path.name not in DRAWN and not path.name.startswith(".") and path.stat().st_size <= LARGEST_PICTURE:
            content = path.read_bytes()
            if content.startswith(PNG):
                found[path.stem] = content
    return found


def _check(record: Record) -> None:
    """Refuse files that were changed to something no run writes, before a page is made of them."""
    stages = record.summary.get("stages", {})
    planned = record.outline.get("stages", [])
    counts = record.confusion.get("counts", [])
    right = {
        "summary.json": isinstance(stages, dict) and all(isinstance(stage, dict) for stage in stages.values()),
        "outline.json": isinstance(record.outline.get("settings", {}), dict)
        and isinstance(planned, list)
        and all(isinstance(stage, dict) and isinstance(stage.get("name"), str) for stage in planned),
        "confusion.json": isinstance(counts, list)
        and isinstance(record.confusion.get("classes", []), list)
        and len(record.confusion.get("classes", [])) == len(counts)
        and all(isinstance(row, list) and len(row) == len(counts) and all(map(_numeric, row)) for row in counts),
        "weights.json": all(
            isinstance(record.weights.get(key, []), list)
            for key in ("copied", "filled", "skipped", "untouched", "notes")
        ),
    }
    for name, fine in right.items():
        if not fine:
            raise ConvaeError(f"{record.folder / name} is not what a run writes. Start the run over with --fresh.")


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
