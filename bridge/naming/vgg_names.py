"""VGG's layers under the names of Keras, torchvision and Caffe.

Keras: block1_conv1, and block1_conv1_bn where there is batch normalisation; fc1, fc2, predictions.
Caffe, and SegNet's encoder in DeepNetsForEO: conv1_1, conv1_1_bn; fc6, fc7, fc8.
torchvision: one Sequential, "features", whose numbers count convolutions, normalisations,
activations and poolings alike, and one, "classifier", with ReLU and Dropout between its layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .schemes import Layers, begins

DEPTHS = ((1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4))  # VGG11, 13, 16, 19
PLAIN, NORMALISED = 2, 3  # numbers from one convolution to the next: with its ReLU, and its normalisation
FEWEST = 4  # convolutions; fewer, one in each block, are those of many a small network

TORCHVISION_TOP = {"classifier/0": "fc1", "classifier/3": "fc2", "classifier/6": "predictions"}
CAFFE_TOP = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
_BETWEEN = frozenset(f"classifier/{number}" for number in (1, 2, 4, 5))  # ReLU and Dropout have no weights

_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}")
_KERAS = re.compile(r"block([1-9][0-9]?)_conv([1-9][0-9]?)(_bn)?")
_CAFFE = re.compile(r"conv([1-9][0-9]?)_([1-9][0-9]?)(_bn)?")
_XCEPTION = re.compile(r"block[0-9]+_sepconv[0-9]+")  # its block1_conv1 and block1_conv2 are not VGG's


def _places(depths: Sequence[int], step: int) -> dict[str, int]:
    """Each layer's number within "features", in the model's order, for so many convolutions a block."""
    places: dict[str, int] = {}
    number = 0
    for block, depth in enumerate(depths, start=1):
        for conv in range(1, depth + 1):
            places[f"block{block}_conv{conv}"] = number
            if step == NORMALISED:
                places[f"block{block}_conv{conv}_bn"] = number + 1
            number += step
        number += 1  # the pooling
    return places


def _whole(names: Iterable[str], places: Iterable[str]) -> bool:
    """Whether no layer is missing but, where the network is cut, the normalisation of its last convolution."""
    return set(list(places)[:-1]) <= set(names)


NETWORKS = tuple(tuple(_places(depths, step)) for depths in DEPTHS for step in (PLAIN, NORMALISED))


def is_vgg(names: Iterable[str]) -> bool:
    """Whether these Keras names are those of VGG11, 13, 16 or 19 from the first layer on, with or without a top."""
    features = set(names) - set(CAFFE_TOP.values())
    convolutions = [name for name in features if not name.endswith("_bn")]
    return len(convolutions) >= FEWEST and begins(features, NETWORKS)


def from_torchvision(layers: Layers) -> dict[str, str]:
    """Keras names of "features.N", or of "features" alone, and of "classifier.N" as torchvision builds it.

    Any number of blocks and of convolutions in them. Nothing where the numbers are not those of
    such a network; no top where "classifier" is another.
    """
    numbered = _numbered(layers, "features/") or _numbered(layers, "")
    kinds = {number: layers[layer] for number, layer in numbered.items()}
    step = NORMALISED if "BatchNormalization" in kinds.values() else PLAIN
    convolutions = sorted(number for number, kind in kinds.items() if kind == "Conv2D")
    places = _places(_depths(convolutions, step), step)
    names = {number: name for name, number in places.items() if number in kinds}
    if not names or kinds != {number: _kind(name) for number, name in names.items()}:
        return {}
    top = {} if _BETWEEN & layers.keys() else _top(layers, TORCHVISION_TOP)
    return {numbered[number]: name for number, name in names.items()} | top if _whole(names.values(), places) else {}


def to_torchvision(layers: Layers) -> dict[str, str]:
    """Numbers in "features" and "classifier" of VGG's Keras names; nothing where one is missing in between.

    A number depends on the layers before it, so that none of these may be left out.
    """
    units = {layer: unit for layer in layers if (unit := _KERAS.fullmatch(layer))}
    blocks = {int(unit[1]) for unit in units.values()}
    depths = [max(int(unit[2]) for unit in units.values() if int(unit[1]) == block) for block in sorted(blocks)]
    places = _places(depths, NORMALISED if any(unit[3] for unit in units.values()) else PLAIN)
    if not units or not _whole(units, places) or any(map(_XCEPTION.fullmatch, layers)):
        return {}
    top = {name: path for path, name in TORCHVISION_TOP.items() if name in layers}
    return {layer: f"features/{places[layer]}" for layer in units} | top


def from_caffe(layers: Layers) -> dict[str, str]:
    """Keras names of conv1_1, conv1_1_bn, fc6 and their like; the layers of SegNet's decoder have none."""
    found = {layer: unit for layer in layers if (unit := _CAFFE.fullmatch(layer))}
    names = {layer: f"block{unit[1]}_conv{unit[2]}{unit[3] or ''}" for layer, unit in found.items()}
    if not names or any(layers[layer] != _kind(name) for layer, name in names.items()):
        return {}
    return names | _top(layers, CAFFE_TOP)


def to_caffe(layers: Layers) -> dict[str, str]:
    """Caffe's names of VGG's layers under their Keras names."""
    units = {layer: unit for layer in layers if (unit := _KERAS.fullmatch(layer))}
    if not units or any(map(_XCEPTION.fullmatch, layers)):
        return {}
    top = {name: path for path, name in CAFFE_TOP.items() if name in layers}
    return {layer: f"conv{unit[1]}_{unit[2]}{unit[3] or ''}" for layer, unit in units.items()} | top


def _numbered(layers: Layers, prefix: str) -> dict[int, str]:
    """The layers right below `prefix` by number; none where there are others below it."""
    below = [layer for layer in layers if layer.startswith(prefix)]
    found = {int(layer[len(prefix) :]): layer for layer in below if _NUMBER.fullmatch(layer, len(prefix))}
    return {} if prefix and len(found) < len(below) else found


def _depths(convolutions: Sequence[int], step: int) -> list[int]:
    """How many convolutions each block has: a step stays within one, one more passes a pooling."""
    depths: list[int] = []
    last = -step - 1
    for number in convolutions:
        if number - last == step + 1:
            depths.append(1)
        elif number - last == step and depths:
            depths[-1] += 1
        else:
            return []
        last = number
    return depths


def _kind(name: str) -> str:
    return "BatchNormalization" if name.endswith("_bn") else "Conv2D"


def _top(layers: Layers, names: Layers) -> dict[str, str]:
    """The dense layers, which some networks write as convolutions, too."""
    return {path: name for path, name in names.items() if layers.get(path) in ("Dense", "Conv2D")}
