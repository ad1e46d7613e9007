"""What a user may say about names: which part, which names instead, which to leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from .errors import BridgeError
from .source import Shape, Source, split

Rename = Mapping[str, str] | Sequence[tuple[str, str]]
Flattened = Mapping[str, Shape | None]


@dataclass(frozen=True)
class Options:
    """How the two sides are named; `bridge.match` explains each."""

    prefix: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    skip: tuple[str, ...] = ()
    strict: bool = False
    names: str | None = None
    flatten: Flattened = field(default_factory=dict)

    def skips(self, candidates: Iterable[str]) -> bool:
        """Whether any of the names is left out."""
        return any(fnmatchcase(name, pattern) for name in candidates for pattern in self.skip)

    def check_flatten(self, layers: Sequence[str]) -> None:
        """Refuse a map for a layer that is not there."""
        for layer in self.flatten:
            if layer not in layers:
                raise BridgeError(unmatched("flatten", layer, layers))

    def check_skips(self, known: Sequence[str]) -> None:
        """Refuse a pattern that leaves out nothing: it is a typing error."""
        for pattern in self.skip:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise BridgeError(unmatched("skip", pattern, known))


def renamed(source: Source, rules: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each source key under the name that the rules give it, one rule after the other."""
    keys = {key: key for key in source}
    for pattern, replacement in rules:
        expression, template = _compiled(pattern, replacement)
        hits = 0
        for key, current in keys.items():
            layer, role = split(current)
            if found := expression.fullmatch(layer):
                keys[key] = f"{_expanded(found, template)}/{role}"
            elif found := expression.fullmatch(current):
                keys[key] = _expanded(found, template)
            hits += bool(found)
        if not hits:
            raise BridgeError(unmatched("rename", pattern, list(source.layers)))
    return keys


def _compiled(pattern: str, replacement: str) -> tuple[re.Pattern[str], str]:
    """A rule: an exact name, a glob (its stars are carried over in order) or a regular expression."""
    if not re.search(r"[\\()\[\]+^$|?]", pattern):
        pieces = [re.escape(piece).replace(r"\.", "[./]") for piece in pattern.split("*")]
        groups = iter(range(1, len(pieces)))
        template = re.sub(r"\*", lambda _: rf"\g<{next(groups, 0)}>", replacement.replace("\\", r"\\"))
        return re.compile("(.*)".join(pieces)), template
    try:
        return re.compile(pattern), replacement
    except re.error as error:
        raise BridgeError(f"rename {pattern!r} is not a regular expression: {error}.") from error


def _expanded(found: re.Match[str], template: str) -> str:
    try:
        return slashed(found.expand(template))
    except (re.error, IndexError) as error:
        raise BridgeError(f"rename to {template!r} is not a regular expression's replacement: {error}.") from error


def slashed(name: str) -> str:
    """A module path as a layer path: both ways of writing it name the same layer."""
    return name.strip(".").replace(".", "/")


def unmatched(option: str, pattern: str, known: Sequence[str]) -> str:
    """The message for a pattern without effect, with the nearest names."""
    near = get_close_matches(pattern, known, n=3)
    hint = f"The nearest names are {', '.join(near)}." if near else f"There are {shortened(known)}."
    return f"{option} {pattern!r} matches nothing. {hint}"


def shortened(names: Sequence[str], count: int = 5) -> str:
    """The first few names of a list."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
