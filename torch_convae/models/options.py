"""What a model can be told, checked before it is built."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConvaeError

MOST = 1_000_000  # of anything that is counted; more is a slip, and would fill the memory


@dataclass(frozen=True)
class Kind:
    """What fits an option, and how that is called."""

    fits: Callable[[Any], bool]
    what: str


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(fits, value))


def _is_size(value: Any) -> bool:
    return _is_count(value) or (_all(value, _is_count) and len(value) == 2)


COUNT = Kind(_is_count, "a whole number of at least 1")
COUNTS = Kind(lambda value: _all(value, _is_count) and len(value) > 0, "whole numbers of at least 1")
FLAG = Kind(lambda value: isinstance(value, bool), "True or False")

# By the option's name, whatever the model. Words are left to the models, which know theirs.
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys("classes in_channels code hidden units outputs width blocks".split(), COUNT),
    **dict.fromkeys("widths depths".split(), COUNTS),
    **dict.fromkeys("batch_norm keras named_features relu relu_logits".split(), FLAG),
    "head": Kind(lambda value: _is_count(value) or _all(value, _is_count), COUNTS.what),  # none is a head, too
    "size": Kind(_is_size, "a height and a width, or one number for both,"),
    "dropout": Kind(lambda value: _is_number(value) and 0 <= value < 1, "a share of at least 0 and less than 1"),
    "noise": Kind(lambda value: _is_number(value) and value >= 0, "a standard deviation of 0 or more"),
    "scales": Kind(lambda value: _all(value, _is_number), "numbers"),
}


def check(name: str, build: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that no network of that name can have."""
    known = inspect.signature(build).parameters
    if unknown := [option for option in options if option not in known]:
        raise ConvaeError(f"{name} takes no option {unknown[0]!r}; it takes {', '.join(known)}.")
    missing = [option for option, what in known.items() if what.default is what.empty and option not in options]
    if missing:
        raise ConvaeError(f"{name} needs {missing[0]}: create({name!r}, {missing[0]}=...).")
    for option, value in options.items():
        if option in KINDS and not (value is None and known[option].default is None):
            _check_value(name, option, value)


def _check_value(name: str, option: str, value: Any) -> None:
    kind = KINDS[option]
    if not kind.fits(value):
        raise ConvaeError(f"{name} takes {kind.what} for {option}, not {value!r}.")
    if any(number > MOST for number in _numbers(value)):
        raise ConvaeError(f"{name} takes at most {MOST:,} for {option}, not {value!r}.")


def _numbers(value: Any) -> Iterator[float]:
    yield from value if isinstance(value, Sequence) else (value,)
