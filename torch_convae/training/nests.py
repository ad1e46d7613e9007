"""Features as a network gives them, a tensor or lists and tuples of tensors, and as a plain list of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor


def leaves_of(nest: Any) -> list[Tensor]:
    """The tensors of a nest, in order."""
    return [nest] if isinstance(nest, Tensor) else [leaf for each in nest for leaf in leaves_of(each)]


def nest_like(nest: Any, leaves: Sequence[Any]) -> Any:
    """The same nest with these in the places of its tensors."""
    return _filled(nest, iter(leaves))


def _filled(nest: Any, leaves: Iterator[Any]) -> Any:
    # Not a function within the other: that would be a cycle, which keeps a batch alive until garbage is collected.
    return next(leaves) if isinstance(nest, Tensor) else type(nest)(_filled(each, leaves) for each in nest)
