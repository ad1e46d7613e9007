"""The kernels of one layer as Keras 0 and 1 stored them, and as Theano computed with them, in Keras 3's axes."""

from __future__ import annotations

from collections.abc import Mapping

from ..source import Shape, Stored
from .changes import changed, permuted, rotated
from .old_orderings import is_line, outputs
from .old_recurrent import together

Tensors = Mapping[str, Stored]  # by role
Layers = Mapping[str, Tensors]

NO_WINDOW = frozenset({"LocallyConnected1D", "LocallyConnected2D", "MaxoutDense", "EinsumDense"})


def shapes_of(tensors: Tensors) -> dict[str, Shape]:
    """The shapes by role."""
    return {role: tensor.shape for role, tensor in tensors.items()}


def channels_last(tensors: Tensors) -> dict[str, Stored]:
    """A layer of a file whose channels come first: (out, in, window...) as (window..., in, out), maps likewise."""
    how = "channels first -> last"
    found = {}
    for role, tensor in tensors.items():
        axes = range(2, len(tensor.shape))
        if role == "alpha" and len(tensor.shape) > 2:  # one value for each place of the map (channels, ...)
            found[role] = permuted(tensor, (1, *axes, 0), how)
        elif len(tensor.shape) > 3:
            found[role] = permuted(tensor, (*axes, 1, 0), how)
        else:
            found[role] = tensor
    return found


def as_kind(tensors: Tensors, kind: str | None, oldest: bool = False) -> dict[str, Stored]:
    """A layer of Keras 0 or 1 of which the class is known, where its arrays alone would not tell it.

    Conv1D had kernels (steps, 1, in, out), before 1.1, the `oldest`, (out, in, steps, 1); Conv2DTranspose
    (height, width, in, out), where Keras 2 and 3 have (height, width, out, in). An Embedding's only
    array was called as a kernel.
    """
    kernel = tensors.get("kernel")
    if kernel is None:
        return dict(tensors)
    if kind == "Embedding" and "embeddings" not in tensors:
        return {"embeddings" if role == "kernel" else role: tensor for role, tensor in tensors.items()}
    if kind == "Conv1D" and len(kernel.shape) == 4:
        return {**tensors, "kernel": _line(kernel, outputs(shapes_of(tensors)), oldest)}
    if kind == "Conv2DTranspose" and len(kernel.shape) == 4:
        return {**tensors, "kernel": permuted(kernel, (0, 1, 3, 2), "in and out exchanged")}
    return dict(tensors)


def keras_1(found: Layers, kinds: Mapping[str, str], ordering: str, version: tuple[int, ...]) -> dict[str, Tensors]:
    """The layers of a file of Keras 0 or 1 in the axes of Keras 3, each gate at its place."""
    oldest = version[:1] == (0,) or version[:2] == (1, 0)
    today: dict[str, Tensors] = {}
    for layer, tensors in found.items():
        kind = kinds.get(layer)
        if ordering == "th" and kind != "Conv1D":  # that had one order, whatever the file's
            tensors = channels_last(tensors)
        today[layer] = as_kind(together(tensors), kind, oldest)
    return today


def lines(found: Layers, kinds: Mapping[str, str]) -> dict[str, str]:
    """The layers of unknown class that can only be Conv1D, in a file whose channels come last."""
    return {layer: "Conv1D" for layer, tensors in found.items() if layer not in kinds and is_line(shapes_of(tensors))}


def _line(kernel: Stored, count: int | None, oldest: bool) -> Stored:
    """Keras 1's kernel of a Conv1D as (steps, in, out); one that is none stays as it is."""
    shape = kernel.shape
    first, last = (shape[one] == 1 and count in (None, shape[out]) for one, out in ((3, 0), (1, 3)))
    if first and (oldest or not last):
        kernel, shape = permuted(kernel, (2, 3, 1, 0), "channels first -> last"), (shape[2], 1, shape[1], shape[0])
    elif not last:
        return kernel
    return changed(kernel, (shape[0], *shape[2:]), lambda array: array[:, 0], "")


def windows(tensors: Tensors, kind: str | None, version: tuple[int, ...]) -> tuple[str, ...]:
    """The roles of the kernels that Theano turns in their window, where that has more than one place.

    These are those of all convolutions but the depthwise ones. A kernel of three axes is one of Conv1D;
    where the class is not known, only in Keras 2, as Keras 1 gave that four.
    """
    if kind in NO_WINDOW:
        return ()
    shapes = shapes_of(tensors)
    least = {"kernel": 3 if kind == "Conv1D" or version >= (2,) else 4, "recurrent_kernel": 4}
    one_bias = len(shapes.get("bias", (0,))) == 1
    return tuple(
        role
        for role, shape in shapes.items()
        if one_bias and len(shape) >= least.get(role, len(shape) + 1) and max(shape[:-2], default=1) > 1
    )


def turned(tensors: Tensors, roles: tuple[str, ...]) -> dict[str, Stored]:
    """The layer with these kernels rotated by 180 degrees."""
    return {role: rotated(tensor) if role in roles else tensor for role, tensor in tensors.items()}
