"""Stored tensors with their numbers moved to other places: not before they are fetched, and said in `how`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..source import Array, Shape, Stored


def changed(tensor: Stored, shape: Shape, change: Callable[[Array], Array], how: str) -> Stored:
    """The tensor as `change` makes it, which gives it this shape."""

    def fetch() -> Array:
        with np.errstate(over="ignore"):  # what is too large to square or to add up is infinite, as verify says
            return np.asarray(change(tensor.fetch()).reshape(shape), order="C")

    return replace(
        tensor,
        shape=shape,
        fetch=fetch,
        how=", ".join(each for each in (tensor.how, how) if each),
    )


def permuted(tensor: Stored, axes: Sequence[int], how: str) -> Stored:
    """The tensor with its axes in this order."""
    return changed(tensor, tuple(tensor.shape[axis] for axis in axes), lambda array: array.transpose(axes), how)


def rotated(tensor: Stored) -> Stored:
    """A kernel turned around in its window: Theano computes convolutions, all else correlations."""
    window = tuple(range(len(tensor.shape) - 2))
    return changed(tensor, tensor.shape, lambda array: np.flip(array, window), "rotated by 180 degrees")


def joined(tensors: Sequence[Stored], how: str) -> Stored:
    """The tensors side by side, along their last axis."""
    first = tensors[0]
    shape = (*first.shape[:-1], sum(tensor.shape[-1] for tensor in tensors))
    return changed(first, shape, lambda array: np.concatenate([array, *(t.fetch() for t in tensors[1:])], -1), how)


def refilled(tensor: Stored, map_: Shape, order: Sequence[int]) -> Stored:
    """A tensor whose axis 0 was flattened from a map of this shape, as if that had had its axes in this order."""
    after = tuple(map_[axis] for axis in order)
    rest = range(len(map_), len(map_) + len(tensor.shape) - 1)

    def change(array: Array) -> Array:
        return array.reshape(*map_, *tensor.shape[1:]).transpose(*order, *rest)

    return changed(tensor, tensor.shape, change, f"rows {tuple(map_)} -> {after}")
