"""Files of a run: each appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import ConvaeError


def write_whole(path: Path, write: Callable[[Path], object], aside: Path | None = None) -> None:
    """Let `write` fill a file beside `path`, then give it that name, once it is on disk.

    What had the name before gets the name `aside`, where there is one; at every moment, one of the two is whole.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        if aside is not None and path.exists():
            path.replace(aside)
        beside.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # PyTorch and safetensors say so of a full disk
        reason = error.strerror if isinstance(error, OSError) else str(error).split("\n")[0]
        raise ConvaeError(f"{path} cannot be written: {reason}. Free space or name another --out.") from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Text as it is, its line ends too; a file's name in it that is no UTF-8 keeps its bytes."""
    write_whole(path, lambda beside: beside.write_text(text, "utf-8", errors="surrogateescape", newline=""))


def sync_folder(path: Path) -> None:
    """Let the names in a folder outlast a loss of power, as the contents of its files do."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """A value as JSON that a person can read, too."""
    text = json.dumps(value, indent=2) + "\n"
    write_whole(path, lambda beside: beside.write_text(text))


def write_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """One JSON value a line."""
    text = "".join(json.dumps(value) + "\n" for value in values)
    write_whole(path, lambda beside: beside.write_text(text))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; anything else is refused by name."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConvaeError(f"{path} does not exist. Name the folder of a run.") from error
    except (OSError, ValueError) as error:
        raise ConvaeError(f"{path} is not readable JSON ({error}). Start over with --fresh.") from error
    if not isinstance(value, dict):
        raise ConvaeError(f"{path} is not the JSON of a run. Start over with --fresh.")
    return value
