"""Which old classes each new class is made of, as `--classes` says it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from .errors import ConvaeError

Groups = Mapping[str, tuple[str, ...]]
"""The old classes of each new one, the new ones in order."""

HOW = "Write new=old+old,other=old, or name a .json or .txt file with such lines"


def read_groups(text: str, old: Sequence[str]) -> Groups:
    """From "tops=Shirt+Coat,bags=Bag", from a .txt file with such a part on each line, or from a .json object.

    A name alone stays a class of its own. Every old class must be there exactly once.
    """
    path = Path(text)
    groups = _from_json(path) if path.suffix == ".json" else _from_parts(_parts(text, path))
    given = [name for names in groups.values() for name in names]
    for name in given:
        if name not in old:
            near = get_close_matches(name, old, n=3) or list(old)
            raise ConvaeError(f"--classes: there is no class {name!r}; did you mean {', '.join(near)}?")
        if given.count(name) > 1:
            raise ConvaeError(f"--classes: {name!r} is in more than one place. Give each old class once.")
    if missing := [name for name in old if name not in given]:
        raise ConvaeError(f"--classes leaves out {', '.join(missing)}. Give each old class once.")
    if len(groups) < 2:
        raise ConvaeError("--classes makes one class of all. Give at least two.")
    return groups


def _parts(text: str, path: Path) -> list[str]:
    if path.suffix != ".txt":
        return text.split(",")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConvaeError(f"--classes: {path} cannot be read ({problem}). {HOW}.") from problem
    return [line for line in lines if line.strip()]


def _from_parts(parts: Sequence[str]) -> Groups:
    groups: dict[str, tuple[str, ...]] = {}
    for part in parts:
        name, _, olds = (side.strip() for side in part.partition("="))
        names = tuple(old.strip() for old in (olds or name).split("+"))
        _add(groups, name, names)
    return groups


def _from_json(path: Path) -> Groups:
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise ConvaeError(f"--classes: {path} cannot be read ({problem}). {HOW}.") from problem
    groups: dict[str, tuple[str, ...]] = {}
    for name, olds in held.items() if isinstance(held, dict) else [("", None)]:
        names = (olds,) if isinstance(olds, str) else olds
        if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
            raise ConvaeError(f'--classes: {path} should hold {{"new": ["old", "old"], ...}}. {HOW}.')
        _add(groups, name, tuple(names))
    return groups


def _add(groups: dict[str, tuple[str, ...]], name: str, names: tuple[str, ...]) -> None:
    if not name or not all(names) or not names:
        raise ConvaeError(f"--classes: {name or '+'.join(names)!r} lacks a name. {HOW}.")
    if name in groups:
        raise ConvaeError(f"--classes: the new class {name!r} is there twice. Give each a name of its own.")
    groups[name] = names
