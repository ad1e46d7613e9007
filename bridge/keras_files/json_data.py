"""JSON from a file, read as data: bounded in size, in number of values and in depth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import BridgeError
from ..hdf5 import shown

LARGEST = 16 << 20
MOST_VALUES = 1_000_000
DEEPEST = 300  # a nested model takes four levels, so this is 70 models one inside another


def content(path: Path) -> bytes:
    """A file's bytes, no more than `parsed` takes and one."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}.") from error


def parsed(data: bytes, where: str) -> Any:
    """The value of a JSON text; `where` names it in messages.

    Refused: no JSON, an object that names something twice, and more than a model takes.
    """
    if len(data) > LARGEST:
        raise BridgeError(f"{where} takes more than {LARGEST} bytes, which no model's description does.")
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise BridgeError(f"{where} has more values than a model's description can. Get the file again.")
    try:
        value = json.loads(data.decode("utf8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise BridgeError(f"{where} is not readable JSON ({reason}). Get the file again.") from error
    if _depth(value) > DEEPEST:
        raise BridgeError(f"{where} is not readable JSON (it is nested too deeply). Get the file again.")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One reader takes the first of two, another one the last."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        often = Counter(name for name, _ in pairs)
        raise ValueError(f"it names {shown(max(often, key=often.__getitem__))} twice")
    return entries


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [inner for each in level for inner in _values(each) if isinstance(inner, (dict, list))]
        depth += 1
    return depth


def _values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
