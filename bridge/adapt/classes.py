"""A head's rows carried over by the names of the classes: fewer, more, merged or in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import log

import numpy as np

from ..errors import BridgeError
from ..options import shortened
from ..source import Array, Source, Stored, key_of
from .axes import TRANSPOSED
from .change import Entry, computed, configured, with_config
from .class_names import NewClasses, Parts, parts_of
from .head import activation_of, head_of

UNITS = ("units", "filters", "output_dim", "nb_filter")  # what Keras calls a layer's outputs, then and now
MOST_COMPARED = 1000  # names, in search of a misspelt one


def classes(source: Source, old: Sequence[str], new: NewClasses, layer: str | None = None) -> Source:
    """The weights of a classification or segmentation head for other classes, carried over by name.

    `old` names the head's outputs in order. `new` are the names wanted, in order; or a mapping from
    each to the old class, or the several old classes, that it is. A merged class has the mean of
    their rows, and log(number) more bias, so that under softmax parts with equal logits give the sum
    of their probabilities; under sigmoid, where the architecture says that, just the mean. Classes
    without an old one keep the initial values of the module that the weights are loaded into.
    The head is `layer`, or else the last convolution or dense layer.

    Refused: another number of old names than the head has outputs, names given twice, old names that
    are not among `old`, nothing that is carried over.
    """
    wanted = parts_of(old, new)
    head, where = head_of(source, len(old), layer)
    places = {name: place for place, name in enumerate(old)}
    parts = [[places[name] for name in names] for names in wanted.values() if names]
    rows = tuple(row for row, names in enumerate(wanted.values()) if names)
    complete = len(rows) == len(wanted)
    if not complete and where.axes in (TRANSPOSED, (1,)):
        raise BridgeError(
            f"{source.name}: {head} is a transposed convolution, whose outputs are not its first axis in PyTorch: "
            f"new classes have no place there. Give only classes that are among the old ones."
        )
    if source.stored[key_of(head, where.weight)].rows is not None:
        raise BridgeError(f"{source.name}: {head} already has other classes. Give the last ones at once.")
    activation = activation_of(source, head)
    logs = [0.0 if activation == "sigmoid" else log(len(each)) for each in parts]
    how = f"{len(old)} -> {len(wanted)} classes by name"
    stored = dict(source.stored)
    for role, axis, extra in ((where.weight, where.axes[0], None), ("bias", 0, logs)):
        key = key_of(head, role)
        if key in source:
            stored[key] = replace(_carried(source, key, axis, parts, extra, how), rows=None if complete else rows)
    return replace(
        source,
        stored=stored,
        architecture=_configured(source, head, len(wanted)),
        notes=(*source.notes, *_notes(source, head, list(old), wanted, activation)),
    )


def _carried(
    source: Source, key: str, axis: int, parts: Sequence[list[int]], extra: Sequence[float] | None, how: str
) -> Stored:
    """A weight with the rows of the parts, or their mean, along the axis of its outputs."""
    shape = list(source.stored[key].shape)
    shape[axis] = len(parts)

    def carry(array: Array) -> Array:
        result = np.stack([array.take(rows, axis).mean(axis) for rows in parts], axis)
        return result if extra is None else result + np.asarray(extra)

    return computed(source, key, how, tuple(shape), carry)


def _configured(source: Source, head: str, count: int) -> Entry | None:
    """The architecture with so many outputs of the head."""
    return configured(source.architecture, {head: lambda entry: with_config(entry, **dict.fromkeys(UNITS, count))})


def _notes(source: Source, head: str, old: list[str], wanted: Parts, activation: str | None) -> list[str]:
    """What became of the classes."""
    used = {name for names in wanted.values() for name in names}
    dropped = [name for name in old if name not in used]
    gone = f"; dropped: {shortened(dropped)}" if dropped else ""
    notes = [f"{head} has the rows of {len(used)} of its {len(old)} classes, carried over by name{gone}."]
    merged = [f"{name} = {' + '.join(names)}" for name, names in wanted.items() if len(names) > 1]
    if merged:
        bias = _bias_note(source, head, activation)
        notes.append(f"Merged classes ({shortened(merged, 3)}) have the mean of their rows{bias}.")
    added = [name for name, names in wanted.items() if not names]
    if added:
        close = {name: get_close_matches(name, dropped[:MOST_COMPARED], n=1) for name in added[:5]}
        near = [f"{name} is nearly the dropped {like[0]}" for name, like in close.items() if like]
        doubt = f" ({', '.join(near)}: a slip of the pen?)" if near else ""
        notes.append(f"New classes keep the module's initial values: {shortened(added)}{doubt}.")
    return notes


def _bias_note(source: Source, head: str, activation: str | None) -> str:
    if activation == "sigmoid":
        return ": under sigmoid, parts with equal logits keep their probability"
    if key_of(head, "bias") not in source:
        return "; the head has no bias, so that a merged class is only as probable as one of its parts"
    said = "" if activation == "softmax" else ", which is taken for granted"
    return (
        f" and log(number) more bias: under softmax{said}, parts with equal logits give the sum of their probabilities"
    )
