"""What happens to one array between Keras and PyTorch, exactly, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from math import prod

import torch
from torch import Tensor

from ..source import Array, Shape
from .beside import Beside, Map
from .reorder import write_permuted


@dataclass(frozen=True)
class Transform:
    """Steps that move numbers and never change one. In this order, each only where it is given:

    `row` takes one row of axis 0. `gates` puts the equal parts of the last axis in another order. `beside` turns
    each map among the values of an axis by itself, where it holds several or other values, too.
    `maps` unfolds an axis into the (height, width, channels) it was flattened from, or (steps, channels), or
    (depth, height, width, channels); PyTorch has the channels first. `axes` are Keras's axes in PyTorch's
    order, an unfolded one staying together unless `apart`. `joined` are the axes of the result, each of which
    puts together some of those. `view` is the shape of the result where that is another for the same numbers.
    """

    axes: tuple[int, ...]
    row: int | None = None
    gates: tuple[int, ...] | None = None
    beside: tuple[tuple[int, Beside], ...] = ()
    maps: tuple[tuple[int, Shape], ...] = ()
    joined: tuple[tuple[int, ...], ...] | None = None
    apart: bool = False
    view: Shape | None = None
    inferred: bool = False

    @property
    def rank(self) -> int:
        """The number of axes of the Keras array."""
        return len(self.axes) + (self.row is not None)

    @property
    def flattened(self) -> tuple[tuple[int, Map], ...]:
        """The axes that were flattened, each with what from."""
        return (*self.beside, *self.maps)

    def unfolding(self, axis: int, map_: Map, inferred: bool = False) -> Transform:
        """The same, where an axis was flattened from a map, or holds several."""
        if isinstance(map_, Beside):
            return replace(self, beside=(*self.beside, (axis, map_)), inferred=self.inferred or inferred)
        return replace(self, maps=(*self.maps, (axis, map_)), inferred=self.inferred or inferred)

    def shape(self, keras: Shape) -> Shape:
        """The shape of the result for a Keras array of that shape."""
        if self.view is not None:
            return self.view
        sizes = self._moved(keras)
        return tuple(prod(sizes[step] for step in group) for group in self._groups)

    def into(self, target: Tensor, array: Array) -> None:
        """Write the array into `target`, which has the result's shape."""
        given = self._unfolded(torch.from_numpy(array))
        if target.is_contiguous():
            write_permuted(target.view([given.shape[axis] for axis in self._order]), given, self._order)
        else:  # a target in another memory format
            target.copy_(given.permute(self._order).reshape(target.shape))

    def apply(self, array: Array) -> Tensor:
        """The array in PyTorch's axes, contiguous."""
        result = torch.empty(self.shape(tuple(array.shape)), dtype=torch.from_numpy(array).dtype)
        self.into(result, array)
        return result

    def back(self, tensor: Tensor, keras: Shape) -> Tensor:
        """The Keras array of shape `keras` that `apply` makes this tensor of; without `row`, that row alone."""
        rest = keras[1:] if self.row is not None else keras
        steps = tensor.reshape(self._moved(keras))
        inverse = [self._order.index(axis) for axis in range(len(self._order))]
        folded = steps.permute(inverse).reshape(rest)
        for axis, each in self.beside:
            folded = folded.index_select(axis, torch.from_numpy(each.order).argsort())
        if self.gates is None:
            return folded
        parts = folded.reshape(*rest[:-1], len(self.gates), -1)
        order = [self.gates.index(gate) for gate in range(len(self.gates))]
        return parts[..., order, :].reshape(rest)

    def alternatives(self, keras: Shape) -> int:
        """How many other orders of the numbers give the same shape: their mix-up would not show in it."""
        rest = keras[1:] if self.row is not None else keras
        becomes = [rest[axis] for axis in self.axes]
        fitting = (order for order in permutations(range(len(rest))) if [rest[axis] for axis in order] == becomes)
        different = {tuple(axis for axis in order if rest[axis] > 1) for order in fitting}
        return len(different - {tuple(axis for axis in self.axes if rest[axis] > 1)})

    def _unfolded(self, given: Tensor) -> Tensor:
        if self.row is not None:
            given = given[self.row]
        if self.gates is not None:
            parts = given.reshape(*given.shape[:-1], len(self.gates), -1)
            given = parts[..., list(self.gates), :].flatten(-2)
        for axis, each in self.beside:
            given = given.index_select(axis, torch.from_numpy(each.order))
        return given.reshape(self._sizes(tuple(given.shape))) if self.maps else given

    def _sizes(self, rest: Shape) -> Shape:
        maps = dict(self.maps)
        return tuple(size for axis, whole in enumerate(rest) for size in maps.get(axis, (whole,)))

    def _moved(self, keras: Shape) -> Shape:
        sizes = self._sizes(keras[1:] if self.row is not None else keras)
        return tuple(sizes[axis] for axis in self._order)

    @property
    def _steps(self) -> list[tuple[int, ...]]:
        """The unfolded axes of each axis, in PyTorch's order."""
        maps, start, steps = dict(self.maps), 0, []
        for axis in range(len(self.axes)):
            size = len(maps.get(axis, (0,)))
            steps.append((start + size - 1, *range(start, start + size - 1)))  # channels first
            start += size
        return [steps[axis] for axis in self.axes]

    @property
    def _order(self) -> tuple[int, ...]:
        return tuple(axis for steps in self._steps for axis in steps)

    @property
    def _groups(self) -> tuple[tuple[int, ...], ...]:
        """The positions in `_order` that each axis of the result puts together."""
        whole, start = [], 0
        for steps in self._steps:
            whole.append(tuple(range(start, start + len(steps))))
            start += len(steps)
        if self.apart:
            return tuple((at,) for at in range(start))
        if self.joined is None:
            return tuple(whole)
        return tuple(tuple(at for index in group for at in whole[index]) for group in self.joined)

    def __str__(self) -> str:
        steps = [f"row {self.row}"] if self.row is not None else []
        if self.gates:
            steps.append(f"gates {self.gates}")
        steps += [f"flattened {map_} beside each other, of each map channels first" for _, map_ in self.beside]
        steps += [f"flattened {map_} {_named(map_)}" for _, map_ in self.maps]
        if self.axes != tuple(range(len(self.axes))):
            steps.append(f"axes {self.axes}")
        if self.joined is not None or self.view is not None:
            steps.append("reshaped")
        return (", ".join(steps) or "as is") + (" (inferred from shapes)" if self.inferred else "")


def _named(map_: Shape) -> str:
    sizes = {2: "steps", 3: "height, width"}.get(len(map_), "depth, height, width")
    return f"{sizes}, channels -> channels, {sizes}"


def identity(shape: Shape) -> Transform:
    """Nothing changes."""
    return Transform(tuple(range(len(shape))))
