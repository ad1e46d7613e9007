"""Naming schemes, computed, both ways, and auto-numbered Keras names made canonical."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .errors import BridgeError

# Keras 1 wrote class names in lower case without underscores.
KERAS_1_PREFIXES = {
    "convolution1d": "conv1d",
    "convolution2d": "conv2d",
    "convolution3d": "conv3d",
    "deconvolution2d": "conv2d_transpose",
    "separableconvolution2d": "separable_conv2d",
    "batchnormalization": "batch_normalization",
}
_PREFIXES = frozenset(KERAS_1_PREFIXES) | frozenset(
    "conv1d conv2d conv3d conv1d_transpose conv2d_transpose conv3d_transpose depthwise_conv2d separable_conv1d "
    "separable_conv2d dense batch_normalization layer_normalization group_normalization embedding p_re_lu "
    "simple_rnn lstm gru bidirectional time_distributed model functional sequential".split()
)
_AUTO = re.compile(rf"({'|'.join(sorted(_PREFIXES, key=len, reverse=True))})(?:_\d+)?")


def auto_prefix(name: str) -> str | None:
    """The class part of a name that Keras gave by itself ("conv2d_16" -> "conv2d"); None for a user's name."""
    found = _AUTO.fullmatch(name)
    return KERAS_1_PREFIXES.get(found[1], found[1]) if found else None


def canonical(layers: Iterable[str]) -> dict[str, str]:
    """Each layer's name with auto-numbers counted from zero, as a fresh Keras 3 session numbers them.

    Keras numbers on through a session, so that one architecture is conv2d_1 ... in one file and
    conv2d_16 ... in the next. The rank within a class, in the model's order, is what they share.
    """
    renamed: dict[str, str] = {"": ""}
    counts: dict[tuple[str, str], int] = {}
    for layer in layers:
        parts = layer.split("/")
        for depth in range(1, len(parts) + 1):
            path, parent = "/".join(parts[:depth]), renamed["/".join(parts[: depth - 1])]
            if path not in renamed:
                renamed[path] = f"{parent}/{_ranked(parent, parts[depth - 1], counts)}".lstrip("/")
    return {layer: renamed[layer] for layer in layers}


def _ranked(parent: str, name: str, counts: dict[tuple[str, str], int]) -> str:
    prefix = auto_prefix(name)
    if prefix is None:
        return name
    rank = counts.get((parent, prefix), 0)
    counts[parent, prefix] = rank + 1
    return f"{prefix}_{rank}" if rank else prefix


def aligned(layers: list[str], own: list[str]) -> dict[str, str]:
    """Each source layer's name as a module counts it whose layers are called `own`.

    A name is a name. Only where both sides have as many auto-numbered layers of a class, under
    other numbers, they are paired by rank: the sessions differed, not the models.
    """
    theirs, ours = canonical(layers), canonical(own)
    by_rank = {rank: name for name, rank in ours.items()}
    renamed: dict[str, str] = {}
    for layer, rank in theirs.items():
        prefix = auto_prefix(layer)
        group = {name for name in layers if auto_prefix(name) == prefix}
        mine = {name for name in own if auto_prefix(name) == prefix}
        differ = prefix is not None and len(group) == len(mine) and group != mine
        renamed[layer] = by_rank.get(rank, layer) if differ else layer
    return renamed


Layers = Mapping[str, str]  # layer path -> Keras class, in the model's order


@dataclass(frozen=True)
class Scheme:
    """A way of naming layers: from its own paths to Keras names, and back."""

    name: str
    to_keras: Callable[[Layers], dict[str, str]]
    from_keras: Callable[[Layers], dict[str, str]]


def _same(layers: Layers) -> dict[str, str]:
    return {layer: layer for layer in layers}


# torchvision's VGG is one Sequential, "features", whose index counts convolutions, normalisations,
# activations and poolings alike: a step of 2 (3 with batch normalisation) stays within a block, one
# more passes a pooling. "classifier" holds Linear layers at 0, 3 and 6, with ReLU and Dropout between.
CLASSIFIER = ("fc1", "fc2", "predictions")
_FEATURE = re.compile(r"(?:features[./])?(\d+)")
_CLASSIFIER = re.compile(r"classifier[./](\d+)")
_KERAS_CONV = re.compile(r"block(\d+)_conv(\d+)(_bn)?")


def _from_torchvision(layers: Layers) -> dict[str, str]:
    normalised = "BatchNormalization" in layers.values()
    step = 3 if normalised else 2
    names: dict[str, str] = {}
    block, conv, last = 1, 0, -step
    for layer, kind in sorted(layers.items(), key=_index):
        feature, dense = _FEATURE.fullmatch(layer), _CLASSIFIER.fullmatch(layer)
        if dense and int(dense[1]) in (0, 3, 6):
            names[layer] = CLASSIFIER[int(dense[1]) // 3]
        if not feature:
            continue
        index = int(feature[1])
        if kind == "BatchNormalization" and index == last + 1:
            names[layer] = f"block{block}_conv{conv}_bn"
            continue
        if index - last not in (step, step + 1):
            return {}
        block, conv = (block, conv + 1) if index - last == step else (block + 1, 1)
        names[layer], last = f"block{block}_conv{conv}", index
    return names if block > 1 else {}


def _index(item: tuple[str, str]) -> int:
    number = item[0].replace(".", "/").rpartition("/")[2]
    return int(number) if number.isdecimal() else -1


def _to_torchvision(layers: Layers) -> dict[str, str]:
    found = {layer: match for layer in layers if (match := _KERAS_CONV.fullmatch(layer))}
    step = 3 if any(match[3] for match in found.values()) else 2
    depths: dict[int, int] = {}
    for match in found.values():
        depths[int(match[1])] = max(depths.get(int(match[1]), 0), int(match[2]))
    names: dict[str, str] = {}
    for layer, match in found.items():
        before = sum(depth * step + 1 for block, depth in depths.items() if block < int(match[1]))
        names[layer] = f"features/{before + (int(match[2]) - 1) * step + (1 if match[3] else 0)}"
    heads = {name: f"classifier/{3 * index}" for index, name in enumerate(CLASSIFIER)}
    return names | {layer: heads[layer] for layer in layers if layer in heads and found}


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("keras", _same, _same),
        Scheme("torchvision", _from_torchvision, _to_torchvision),
    )
}


def scheme(name: str) -> Scheme:
    """The scheme of that name; an unknown one is refused with the list."""
    if name not in SCHEMES:
        raise BridgeError(f"There is no naming scheme {name!r}; there are {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def detect(layers: Layers) -> Scheme:
    """The scheme that a set of layer paths follows: torchvision's VGG where the indices say so, else Keras."""
    own = SCHEMES["torchvision"]
    names = own.to_keras(layers)
    return own if names and len(names) == len(layers) else SCHEMES["keras"]
