"""What a user may say about names: which part, which names instead, which to leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypedDict

from .errors import BridgeError
from .layers.beside import Said
from .source import Shape, Source, split

Rename = Mapping[str, str] | Sequence[tuple[str, str]]
Flattened = Mapping[str, Said | None]
Classes = tuple[Sequence[str], Sequence[str] | Mapping[str, str | Sequence[str]]]


class Choices(TypedDict, total=False):
    """What may be said about a match, all of it by name.

    `prefix` is the part of the module that the source describes ("encoder"). `rename` gives source layers or
    keys other names first: pairs of an exact name, a glob whose stars are carried over, or a regular
    expression with groups. `skip` holds globs over source layers, source keys and target names. `strict`
    refuses anything skipped or untouched. `names` is the scheme by which the module names its layers (by
    default what the paths look like). `by="order"` pairs layers by kind and order instead of by name.
    `flatten` gives the map in front of a Dense layer, {"fc1": (height, width, channels)} or None for no
    Flatten, where the file does not; of a map beside ten other values it is ((height, width, channels), 10).
    `unflatten` is the map that a Dense layer's outputs are reshaped to.

    These change the weights on their way, and the plan says how: `in_channels` makes the first convolution
    one of that many channels, `flip_input` turns BGR into RGB and back, `fold_batch_norm` folds
    normalisations into the layers in front of them, `classes` (old names, new names) carries the rows of a head
    over by class name.
    """

    prefix: str
    rename: Rename
    skip: str | Sequence[str]
    strict: bool
    names: str | None
    by: str
    flatten: Flattened
    unflatten: Flattened
    in_channels: int | None
    flip_input: bool
    fold_batch_norm: bool
    classes: Classes | None


@dataclass(frozen=True)
class Options:
    """How the two sides are named and what changes on the way; `Choices` explains each."""

    prefix: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    skip: tuple[str, ...] = ()
    strict: bool = False
    names: str | None = None
    by: str = "name"
    flatten: Flattened = field(default_factory=dict)
    unflatten: Flattened = field(default_factory=dict)
    in_channels: int | None = None
    flip_input: bool = False
    fold_batch_norm: bool = False
    classes: Classes | None = None

    @classmethod
    def of(cls, choices: Choices) -> Options:
        """The choices in one form: pairs for a rename, a tuple for what is skipped."""
        given: dict[str, Any] = dict(choices)
        if unknown := given.keys() - Choices.__annotations__.keys():
            raise TypeError(
                f"there is no option {sorted(unknown)[0]!r}; there are {', '.join(Choices.__annotations__)}"
            )
        rename, skip = given.get("rename") or (), given.get("skip") or ()
        _check(rename, given)
        given["rename"] = tuple(rename.items() if isinstance(rename, Mapping) else rename)
        given["skip"] = (skip,) if isinstance(skip, str) else tuple(skip)
        return cls(**{name: value for name, value in given.items() if value is not None})

    def skips(self, candidates: Iterable[str]) -> bool:
        """Whether any of the names is left out."""
        return any(_is_meant(name, pattern) for name in candidates for pattern in self.skip)

    def check_flatten(self, layers: Mapping[str, Mapping[str, Shape]]) -> None:
        """Refuse a map for a layer that is not there, or that has no values in a row."""
        for option, maps in (("flatten", self.flatten), ("unflatten", self.unflatten)):
            for layer in maps:
                if layer not in layers:
                    raise BridgeError(unmatched(option, layer, list(layers)))
                kernel = layers[layer].get("kernel", ())
                if len(kernel) > 3:
                    raise BridgeError(
                        f"{option} says a map of {layer}, whose kernel {tuple(kernel)} is a convolution's: it has no "
                        f"values in a row. Name the one behind the Flatten or in front of the Reshape."
                    )

    def check_skips(self, known: Sequence[str]) -> None:
        """Refuse a pattern that leaves out nothing: it is a typing error."""
        for pattern in self.skip:
            if not any(_is_meant(name, pattern) for name in known):
                raise BridgeError(unmatched("skip", pattern, known))


def _is_meant(name: str, pattern: str) -> bool:
    """A name stands for itself, whatever signs of a glob are in it."""
    return name == pattern or fnmatchcase(name, pattern)


def _check(rename: Any, given: Mapping[str, Any]) -> None:
    """Refuse options of another form than theirs."""
    _check_names(rename, given.get("skip") or ())
    for option, kind, form in _FORMS:
        value = given.get(option)
        if value is not None and (not isinstance(value, kind) or (option == "classes" and len(given[option]) != PAIR)):
            raise BridgeError(f"{option} is {value!r}, but should be {form}.")
    for option in ("flatten", "unflatten"):
        for layer, said in (given.get(option) or {}).items():
            if said is not None and not _is_map(said):
                raise BridgeError(
                    f"{option} says {said!r} of {layer}, but should say (height, width, channels), or None for no map."
                )


def _check_names(rename: Any, skip: Any) -> None:
    """Refuse what names no layers: texts where pairs of them are wanted, and numbers anywhere."""
    if not _are_pairs(rename):
        raise BridgeError(f"rename is {rename!r}, but should be a mapping or pairs: {{'old': 'new'}}.")
    for old, new in _rules(rename):
        if not new.strip("./"):
            raise BridgeError(f"rename gives {old!r} no name. Leave a layer out with skip.")
    if not isinstance(skip, Iterable) or any(not isinstance(pattern, str) for pattern in skip):
        raise BridgeError(f"skip is {skip!r}, but should be a name, a glob or several: ['head', 'block5_*'].")


def _are_pairs(rename: Any) -> bool:
    if isinstance(rename, str) or not isinstance(rename, Iterable):
        return False
    rules = [() if isinstance(rule, str) or not isinstance(rule, Iterable) else tuple(rule) for rule in _rules(rename)]
    return all(len(rule) == PAIR and all(isinstance(name, str) for name in rule) for rule in rules)


PAIR = 2
_FORMS: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("strict", bool, "True or False"),
    ("flip_input", bool, "True or False"),
    ("fold_batch_norm", bool, "True or False"),
    ("in_channels", int, "a number"),
    ("prefix", str, "the name of a part"),
    ("flatten", Mapping, "maps by layer: {'fc': (height, width, channels)}"),
    ("unflatten", Mapping, "maps by layer: {'fc': (height, width, channels)}"),
    ("classes", (tuple, list), "the old names and the new ones: (['cat', 'dog'], ['dog', 'cat'])"),
)


def _is_map(said: Any) -> bool:
    """(height, width, channels), or such maps and numbers beside each other."""
    if isinstance(said, str) or not isinstance(said, Iterable):
        return False
    sizes = [size for each in said for size in (each if isinstance(each, (tuple, list)) else [each])]
    return all(isinstance(size, int) and size > 0 for size in sizes)


def _rules(rename: Any) -> list[tuple[str, str]]:
    return list(rename.items() if isinstance(rename, Mapping) else rename)


def renamed(source: Source, rules: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each source key under the name that the rules give it, one rule after the other."""
    keys = {key: key for key in source}
    for pattern, replacement in rules:
        exact = any(pattern in (key, split(key)[0]) for key in keys.values())
        expression, template = _compiled(pattern, replacement, exact)
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


def _compiled(pattern: str, replacement: str, exact: bool) -> tuple[re.Pattern[str], str]:
    """A rule: an exact name, a glob (its stars are carried over in order) or a regular expression."""
    if exact:
        return re.compile(re.escape(pattern)), replacement.replace("\\", r"\\")
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
