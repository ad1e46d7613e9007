"""What Flatten, Reshape, Permute and the layers that join several make of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ..architecture import KerasLayer
from .maps import LAST, MOST_AXES, Flat, Made, Values, common
from .sizes import Size, Sizes


def permuted(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """The axes in another order. Where Keras moves the channels to the front, PyTorch has them already."""
    given, dims = inputs[0], tuple(layer.config["dims"])
    rank = len(dims)
    if given.shape is None or len(given.shape) != rank or sorted(dims) != list(range(1, rank + 1)):
        return Values(None, LAST if given.channels == LAST else None)
    shape = tuple(given.shape[axis - 1] for axis in dims)
    if given.made and dims == (*range(2, rank + 1), 1):  # what the Reshape gave had its channels first, as PyTorch
        return Values(shape, 0)
    if dims[-1] == rank:
        kept = given.channels in (None, LAST) or dims[: given.channels] == tuple(range(1, given.channels + 1))
        return replace(given, shape=shape, channels=given.channels if kept else None)
    if given.channels == LAST or (given.channels == 0 and dims[0] == rank):  # PyTorch has the channels there already
        return Values(shape, LAST)
    return Values(shape, None)


def concatenated(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """Several side by side in one axis."""
    shapes = [given.shape for given in inputs if given.shape]
    if len(shapes) < len(inputs) or len({len(shape) for shape in shapes}) > 1:
        return unknown(layer, inputs)
    rank, axis = len(shapes[0]), layer.config.get("axis", layer.config.get("concat_axis", -1))
    axis = axis - 1 if axis > 0 else rank + axis
    shape = [next((each[at] for each in shapes if each[at]), None) for at in range(rank)]
    along = [each[axis] for each in shapes]
    shape[axis] = None if None in along else sum(size or 0 for size in along)
    joined = _joined(inputs, parts=axis == rank - 1)
    if rank == 1 and joined.flat:
        joined = replace(joined, flat=_beside(inputs))
    return replace(joined, shape=tuple(shape))


def _beside(inputs: Sequence[Values]) -> Flat:
    """The maps of rows one behind the other; no order can be told where one is not known, or moves in time."""
    parts: list[Flat] = []
    for given in inputs:
        own = given.flat or Flat(given.shape or ())
        parts += own.beside or (own,)
    sizes = [prod(size or 0 for size in part.shape) for part in parts]
    told = all(sizes) and len(parts) <= MOST_AXES and not any(part.mixed or part.kept for part in parts)
    inferred = any(part.inferred for part in parts)
    return Flat((sum(sizes),), inferred=inferred, beside=tuple(parts)) if told else Flat((), mixed=True)


def combined(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """Several, value by value; an axis of one value goes with any."""
    shapes = [given.shape for given in inputs if given.shape]
    if not shapes or len(shapes) < len(inputs):
        return unknown(layer, inputs)
    rank = max(len(shape) for shape in shapes)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    shape = tuple(_widest(sizes) for sizes in zip(*aligned, strict=True))
    return replace(_joined(inputs), shape=shape)


def _widest(sizes: Sizes) -> Size:
    return next((size for size in sizes if size and size != 1), None if None in sizes else 1)


def _joined(inputs: Sequence[Values], parts: bool = False) -> Values:
    """Several as one, but for the shape; as `parts` beside each other in the last axis, or value by value."""
    flats = {given.flat for given in inputs if given.flat or given.shape != (1,)} or {None}
    flat = next(iter(flats)) if len(flats) == 1 and (flats == {None} or not parts) else Flat((), mixed=True)
    makers = tuple(dict.fromkeys(maker for given in inputs for maker in given.makers))
    whole = not parts and all(given.whole and given.makers for given in inputs)
    made = tuple(dict.fromkeys(made for given in inputs for made in given.made))
    inferred = any(given.inferred for given in inputs)
    return Values(None, common(inputs), flat, makers, whole or not makers, made, inferred)


def merged_by_mode(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """Keras 1's Merge."""
    mode = layer.config.get("mode", "sum")
    rule = {"concat": concatenated}.get(mode, combined if mode in ("sum", "mul", "ave", "max") else unknown)
    return rule(layer, inputs)


def flattened(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """A row, of a Flatten or a Reshape."""
    given, moves = inputs[0], layer.kind == "Flatten" and layer.config.get("data_format") == "channels_first"
    if given.shape is None:
        return Values((None,), LAST, given.flat or (None if given.channels == LAST else Flat(())))
    size = None if None in given.shape else prod(size or 0 for size in given.shape)
    flat = _flat_moved(given) if moves and len(given.shape) > 1 else _flat(given)
    alone = all(each == 1 for each in given.shape[:-1])
    return Values((size,), LAST, flat if flat and flat.moves else None, given.makers, given.whole and alone)


def _flat(given: Values) -> Flat | None:
    shape, channels, inner = given.shape or (), given.channels, given.flat
    if channels != LAST:
        return Flat(shape, channels or 0, given.inferred, mixed=channels is None or inner is not None)
    if inner is None or not inner.shape or all(size == 1 for size in shape[:-1]):
        return inner
    whole = (*shape[:-1], *inner.shape)
    if inner.beside or len(whole) > MOST_AXES:
        return Flat((), mixed=True)
    return replace(inner, shape=whole, kept=inner.kept + len(shape) - 1)


def _flat_moved(given: Values) -> Flat:
    """Keras moves axis 0 to the end before it flattens."""
    shape = given.shape or ()
    return Flat((*shape[1:], shape[0]), mixed=given.channels != LAST or given.flat is not None)


def reshaped(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """The same values in other axes; PyTorch's order of these stays known only where the channels are the same."""
    given, config = inputs[0], layer.config
    target = config.get("target_shape") or config.get("dims") or (config.get("newshape") or [None])[1:]
    if not target:
        return unknown(layer, inputs)
    shape = _solved(tuple(target), given.shape)
    if len(shape) == 1:
        return flattened(layer, inputs)
    if given.shape is None or shape == given.shape:
        return replace(given, shape=shape) if given.shape else Values(shape, LAST if given.channels == LAST else None)
    if all(size == 1 for size in given.shape[:-1]):
        return _unfolded(given, shape)
    merged, rest = given.shape[: len(shape) - 1], given.shape[len(shape) - 1 :]
    if given.channels == LAST and given.flat is None:
        return Values(shape, LAST)
    if len(shape) < len(given.shape) and shape[:-1] == merged and given.flat is None:
        kept = -1 if given.channels is None else given.channels - len(merged)
        flat = Flat(rest, max(kept, 0), given.inferred, mixed=kept < 0)
        return Values(shape, LAST if kept >= 0 else None, flat if flat.moves else None)
    return Values(shape, None)


def _unfolded(given: Values, shape: Sizes) -> Values:
    """The map that a row is reshaped to. What no layer decides is a map with channels first, if it has three axes."""
    if given.flat is not None:
        return Values(shape, given.flat.kept if given.flat.shape == shape and not given.flat.mixed else None)
    usual = {2: LAST, 3: 0}.get(len(shape))
    return Values(shape, usual, made=(Made(given.makers, shape, given.whole),) if given.makers else ())


def _solved(target: Sizes, given: Sizes | None) -> Sizes:
    """A Reshape's target with the -1 that may stand in it solved."""
    if target.count(-1) != 1:
        return target
    rest = prod(size or 0 for size in target if size != -1)
    whole = prod(size or 0 for size in given) if given is not None and None not in given else 0
    return tuple((whole // rest if rest and whole else None) if size == -1 else size for size in target)


def unknown(_: KerasLayer, inputs: Sequence[Values]) -> Values:
    """Of a class that is not known here: only what is certain."""
    if any(given.flat for given in inputs):
        return Values(None, None, Flat((), mixed=True))
    if all(given.channels == LAST for given in inputs):
        return Values(None, LAST)
    first = inputs[0]
    if len(inputs) == 1 and first.shape and first.channels is not None:
        return Values((None,) * len(first.shape), first.channels, inferred=True)
    return Values(None, None)
