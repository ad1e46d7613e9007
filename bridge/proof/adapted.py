"""What a Keras model took and gave, as a module with adapted weights takes and gives it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..adapt.class_names import parts_of
from ..adapt.first import channels_of, first_convolutions
from ..errors import BridgeError
from ..options import Options
from ..source import Array, Source
from .outputs import Recorded

ELSE = "Leave the whole outputs out: the layers are proved one by one."


def as_adapted(record: Recorded, source: Source, options: Options) -> Recorded:
    """The record for weights that were adapted as the options say; the same one where they say nothing.

    Refused: images whose channels differ where other channels were asked for, and numbers of channels or classes for
    which no output is kept.
    """
    inputs, outputs = [*record.inputs], [*record.outputs]
    if options.flip_input or options.in_channels is not None:
        first = first_convolutions(source)
        key, axis = channels_of(source, first.layers[0])
        have = source.stored[key].shape[axis]
        where, wanted = first.channels_axis, options.in_channels or have
        if wanted % have and wanted != 1:
            raise BridgeError(f"{record.name}: {have} channels as {wanted} keep no output to compare. {ELSE}")
        for at, array in enumerate(inputs):
            if array.ndim > 2 and array.shape[where] == have:
                inputs[at] = _other_channels(np.asarray(array), where, wanted, options.flip_input, record.name)
    if options.classes is not None:
        old, new = options.classes
        parts = [*parts_of(old, new).values()]
        if any(len(names) != 1 for names in parts):
            raise BridgeError(f"{record.name} has no output of classes that are new or merged. {ELSE}")
        columns = [list(old).index(name) for (name,) in parts]
        outputs = [_columns(array, columns) if array.shape[-1:] == (len(old),) else array for array in outputs]
    return replace(record, inputs=inputs, outputs=outputs)


def grey(array: Array, channels_axis: int = -1) -> Array:
    """The array with its first channel in the place of all."""
    first = array.take([0], channels_axis)
    return np.ascontiguousarray(np.broadcast_to(first, array.shape))


def _other_channels(array: Array, where: int, wanted: int, flip: bool, name: str) -> Array:
    flipped = np.flip(array, where) if flip else array
    if wanted == array.shape[where]:
        return flipped
    if not np.array_equal(array, grey(array, where)):
        raise BridgeError(
            f"{name}: its images have channels that differ, and other numbers of channels compute the same for grey "
            f"images alone. Record such, with equal channels. {ELSE}"
        )
    return array.take([0] * wanted, where)


def _columns(array: Array, columns: list[int]) -> Array:
    """Those of each class; probabilities of a part of the classes add up to one again, as behind its softmax."""
    kept = array[..., columns]
    shares = array.min(initial=0.0) >= 0 and np.allclose(array.sum(-1), 1, atol=1e-3)
    return np.asarray(kept / kept.sum(-1, keepdims=True)) if shares else kept
