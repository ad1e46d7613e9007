"""Arrays as Keras 0, 1 and 2 stored them, brought to Keras 3's: its roles, its axes, its kernels and its gates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..architecture import layers, walk, wrapped
from ..errors import BridgeError
from ..layers.beside import Said
from ..naming.auto_names import auto_prefix
from ..options import shortened
from ..source import Shape, Stored, key_of, split
from . import old_flatten, old_kernels, old_orderings, old_recurrent
from .changes import changed
from .old_kernels import Layers, Tensors, shapes_of

# Classes that automatic names tell and arrays do not.
NAMED = {
    "conv1d": "Conv1D",
    "conv1d_transpose": "Conv1DTranspose",
    "conv2d_transpose": "Conv2DTranspose",
    "conv3d_transpose": "Conv3DTranspose",
    "depthwise_conv1d": "DepthwiseConv1D",
    "depthwise_conv2d": "DepthwiseConv2D",
    "embedding": "Embedding",
    "locally_connected1d": "LocallyConnected1D",
    "locally_connected2d": "LocallyConnected2D",
    "maxout_dense": "MaxoutDense",
}
CUDNN = frozenset({"CuDNNGRU", "CuDNNLSTM"})
VARIANCE_SINCE = (1, 0, 6)  # before, running_std was what it is called

FIRST = "Its kernels have their channels first (dim_ordering 'th'): they are given with channels last."
TURNED = "Theano wrote it: its kernels are rotated by 180 degrees, as all but Theano compute with them."
SQUARED = "{0}: Keras before 1.0.6 stored a standard deviation, squared here; it divided by that plus epsilon."
WHOSE = (
    "the file does not say whether Theano wrote it: read it with kernels='th' (rotated by 180 degrees, as Theano's "
    "need to be) or kernels='tf' (taken as they are)."
)
WHICH = (
    "{0} takes {1} values of a map with its channels first, and the file does not say of which: "
    "read it with flatten={{{0!r}: (height, width, channels)}}."
)


@dataclass(frozen=True)
class Modern:
    """Weights as Keras 3 would have stored them; each is changed when it is fetched, and its `how` says so.

    `kinds` are the classes that were given and those that were learnt. `undecided` is what the file
    leaves open, without which no load would be right. `flattened` has the layers whose rows were
    brought to another order, each with its map (height, width, channels).
    """

    stored: Mapping[str, Stored]
    kinds: Mapping[str, str]
    notes: tuple[str, ...] = ()
    undecided: str | None = None
    flattened: Mapping[str, Shape] = field(default_factory=dict)
    cudnn: frozenset[str] = frozenset()


def modern(
    stored: Mapping[str, Stored],
    *,
    version: str | None,
    backend: str | None,
    kinds: Mapping[str, str],
    dim_ordering: str | None = None,
    kernels: str | None = None,
    architecture: Mapping[str, Any] | None = None,
    flatten: Mapping[str, Said | None] | None = None,
) -> Modern:
    """The weights of a legacy file, keyed "layer/role" as `spell` has them, under Keras 3's conventions.

    `kinds` are the classes that the file says. `dim_ordering` and `kernels`, "th" or "tf", say what a
    file of Keras 0 or 1 does not: whether its channels come first, and whether Theano wrote it, whose
    kernels are rotated. Without an `architecture`, the rows behind a Flatten of channels first are
    brought to the order of height, width, channels, of a square map or that of `flatten`; with one, they
    are as it says. Refused: options that contradict the file.
    """
    number = tuple(int(each) for each in re.findall(r"[0-9]{1,6}", version or "")[:3]) or (1,)
    _check(number, dim_ordering=dim_ordering, kernels=kernels)
    found: Layers = _by_layer(stored)
    known = _named(found) | _classes(kinds, architecture)
    ordering, notes = None, []
    if number < (2,):
        ordering, note = _ordering(found, known, architecture, dim_ordering)
        known |= {} if ordering == "th" else old_kernels.lines(found, known)
        found, squared = _squared(old_kernels.keras_1(found, known, ordering, number), number)
        notes += [note, FIRST if ordering == "th" else "", squared]
    windows = {layer: old_kernels.windows(each, known.get(layer), number) for layer, each in found.items()}
    window = any(windows.values())
    if window and (kernels or backend) in ("th", "theano"):
        found = {layer: old_kernels.turned(each, windows[layer]) for layer, each in found.items()}
        notes.append(TURNED)
    learnt = _named(found) | dict(kinds) | _learnt(found, known, kinds)
    rows = old_flatten.Rows(_as_today(found))
    if ordering == "th" and architecture is None:
        rows = old_flatten.channels_last(rows.stored, learnt, flatten or {})
    undecided = [WHOSE] if ordering == "th" and window and not (kernels or backend) else []
    undecided += [WHICH.format(layer, count) for layer, count in rows.unknown.items()]
    notes = [note for note in (*notes, *rows.notes) if note]
    cudnn = frozenset(layer for layer, tensors in found.items() if old_recurrent.is_cudnn(shapes_of(tensors)))
    return Modern(rows.stored, learnt, tuple(notes), " ".join(undecided) or None, rows.maps, cudnn)


def told(stored: Mapping[str, Stored], kinds: Mapping[str, str]) -> dict[str, Stored]:
    """The tensors of a Keras 1 file, as `modern` gives them, where only the module says what a layer is.

    `kinds` are the classes of the module for layers whose class the file does not say.
    """
    found = {layer: old_kernels.as_kind(each, kinds.get(layer)) for layer, each in _by_layer(stored).items()}
    return _by_key(found)


def _check(number: tuple[int, ...], **options: str | None) -> None:
    for option, value in options.items():
        if value not in (None, *old_orderings.ORDERINGS):
            raise BridgeError(f"{option}={value!r} is neither 'th' nor 'tf': say one of them, or leave it out.")
    if options["dim_ordering"] and number >= (2,):
        raise BridgeError("dim_ordering is for files of Keras 0 and 1; those of Keras 2 have one order. Leave it out.")


def _ordering(
    found: Layers, known: Mapping[str, str], architecture: Mapping[str, Any] | None, said: str | None
) -> tuple[str, str]:
    shapes = {layer: shapes_of(tensors) for layer, tensors in found.items()}
    return old_orderings.ordering(shapes, known, old_orderings.configured(architecture), said)


def _by_layer(stored: Mapping[str, Stored]) -> dict[str, dict[str, Stored]]:
    found: dict[str, dict[str, Stored]] = {}
    for key, tensor in stored.items():
        layer, role = split(key)
        found.setdefault(layer, {})[role] = tensor
    return found


def _by_key(found: Layers) -> dict[str, Stored]:
    return {key_of(layer, role): tensor for layer, tensors in found.items() for role, tensor in tensors.items()}


def _named(found: Layers) -> dict[str, str]:
    """The classes that the names of layers tell."""
    prefixes = {layer: auto_prefix(layer.rpartition("/")[2]) for layer in found}
    return {layer: NAMED[prefix] for layer, prefix in prefixes.items() if prefix in NAMED}


def _classes(kinds: Mapping[str, str], architecture: Mapping[str, Any] | None) -> dict[str, str]:
    """The classes that the file says; what a TimeDistributed holds stands for it."""
    try:
        inner = {path: wrapped(layer) for path, layer in walk(layers(architecture))}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BridgeError("its model_config describes no model. Get the file again.") from error
    return {**kinds, **{path: layer.kind for path, layer in inner.items() if layer is not None}}


def _squared(found: Layers, number: tuple[int, ...]) -> tuple[Layers, str]:
    """The layers with variances where the file has standard deviations, which its version tells."""
    layers = [layer for layer, tensors in found.items() if "moving_variance" in tensors]
    if not layers or number >= VARIANCE_SINCE or (number[0] == 1 and len(number) < 3):
        return found, ""
    squares = {
        layer: {role: _square(each) if role == "moving_variance" else each for role, each in found[layer].items()}
        for layer in layers
    }
    return {**found, **squares}, SQUARED.format(shortened(layers))


def _square(tensor: Stored) -> Stored:
    return changed(tensor, tensor.shape, np.square, "squared")


def _as_today(found: Layers) -> dict[str, Stored]:
    """Every layer without what Keras 3 no longer has: CuDNN's own arrays, and a role that is now called kernel."""
    today: dict[str, Tensors] = {}
    for layer, tensors in found.items():
        if old_recurrent.is_cudnn(shapes_of(tensors)):
            tensors = old_recurrent.from_cudnn(tensors)
        if "depthwise_kernel" in tensors and not {"pointwise_kernel", "kernel"} & tensors.keys():
            tensors = {"kernel" if role == "depthwise_kernel" else role: each for role, each in tensors.items()}
        today[layer] = tensors
    return _by_key(today)


def _learnt(found: Layers, known: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """The classes that the arrays tell, where the file does not or says CuDNN's."""
    learnt = {}
    for layer, tensors in found.items():
        kind = old_recurrent.kind(shapes_of(tensors)) or (known.get(layer) if layer not in kinds else None)
        for role, name in (("pointwise_kernel", "SeparableConv"), ("depthwise_kernel", "DepthwiseConv")):
            if role in tensors and kind is None:
                kind = f"{name}{len(tensors[role].shape) - 2}D"
        if kind and (layer not in kinds or kinds[layer] in CUDNN):
            learnt[layer] = kind
    return learnt
