"""What a model can be told, checked before it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ConvaeError

# Options that are counts, and those that hold several, whatever the model.
COUNTS = frozenset("classes in_channels code hidden units outputs width blocks growth".split())
LISTS = frozenset("widths depths head".split())


def check(name: str, build: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that no network of that name can have."""
    known = inspect.signature(build).parameters
    if unknown := [option for option in options if option not in known]:
        raise ConvaeError(f"{name} takes no option {unknown[0]!r}; it takes {', '.join(known)}.")
    missing = [option for option, what in known.items() if what.default is what.empty and option not in options]
    if missing:
        raise ConvaeError(f"{name} needs {missing[0]}: create({name!r}, {missing[0]}=...).")
    for option, value in options.items():
        if value is None and known[option].default is None:
            continue
        if option in COUNTS and not _is_count(value):
            raise ConvaeError(f"{name} takes a whole number of at least 1 for {option}, not {value!r}.")
        if option in LISTS and not _are_counts(value):
            raise ConvaeError(f"{name} takes whole numbers of at least 1 for {option}, not {value!r}.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_counts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_count(each) for each in value)
