"""Where results go: a file or a folder that is new, or was made before from the same source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConvaeError
from ..files import read_json, write_json

MARK = "made_by.json"


def made_by(verb: str, *source: str | None) -> dict[str, str]:
    """What tells the results of one command and one source, perhaps with its weights, from those of others."""
    places = [(str(Path(part).resolve()) if Path(part).exists() else part) for part in source if part]
    return {"command": f"torch_convae.{verb}", "source": " with ".join(places)}


def check_file(path: Path, made: Mapping[str, str], overwrite: bool, mark_of: Callable[[Path], Any]) -> None:
    """Refuse a file that something else made, unless it may be overwritten, and a place that takes no file."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in no folder: there is no {path.parent}"
        raise ConvaeError(f"{path} {what}. Name another --out.")
    if path.exists() and not overwrite and mark_of(path) != made:
        raise ConvaeError(f"{path} exists and is not of this command and source. Name another --out, or --overwrite.")


def check_folder(path: Path, made: Mapping[str, str], overwrite: bool) -> None:
    """Refuse a folder with anything that this command did not make from this source, unless it may be overwritten."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ConvaeError(f"{path} is a file. Name another --out.")
    there = sorted(entry.name for entry in path.iterdir())
    if there and not overwrite and mark_in(path) != made:
        raise ConvaeError(
            f"{path} holds {there[0]}, which is not of this command and source. Name another --out, or --overwrite."
        )


def open_folder(path: Path, made: Mapping[str, str]) -> None:
    """Make the folder, and write into it what makes it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvaeError(f"{path} cannot be written: {error.strerror}. Name another --out.") from error
    write_json(path / MARK, dict(made))


def mark_in(folder: Path) -> Mapping[str, Any] | None:
    """What made a folder; None where nothing says so."""
    try:
        return read_json(folder / MARK)
    except ConvaeError:
        return None
