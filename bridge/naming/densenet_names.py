"""DenseNet's layers under the names of Keras and torchvision; timm names them as torchvision does.

Keras: conv1_conv, conv1_bn, conv2_block1_0_bn ..., pool2_bn, pool2_conv, ..., bn, predictions.
torchvision: features.conv0, features.norm0, features.denseblock1.denselayer1.norm1 ...,
features.transition1.norm, features.transition1.conv, ..., features.norm5, classifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .schemes import Layers, begins

DEPTHS = ((6, 12, 24, 16), (6, 12, 32, 32), (6, 12, 48, 32), (6, 12, 36, 24))  # DenseNet121, 169, 201, 161

# What keras-applications called them; Keras 3 allows no slash in a name.
OLDER = {"conv1/conv": "conv1_conv", "conv1/bn": "conv1_bn", "fc1000": "predictions"}

STEM = {"conv1_conv": "conv0", "conv1_bn": "norm0"}
PARTS = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
END = {"bn": "norm5", "predictions": "classifier"}

_DENSE_LAYER = re.compile(r"denseblock([1-9])/denselayer([1-9][0-9]?)/(?:norm|conv)[12]")
_SPLIT = re.compile(r"(/(?:norm|conv))/([12])")  # torchvision's first files have norm.1 for norm1
_KERAS = re.compile(r"conv([2-9]|10)_block([1-9][0-9]?)_(.+)")


def _network(depths: Sequence[int]) -> dict[str, str]:
    """Keras name -> path within "features", in the model's order, a transition after every block."""
    names = dict(STEM)
    for block, depth in enumerate(depths, start=1):
        for layer in range(1, depth + 1):
            for part, path in PARTS.items():
                names[f"conv{block + 1}_block{layer}_{part}"] = f"denseblock{block}/denselayer{layer}/{path}"
        for part in ("norm", "conv"):
            names[f"pool{block + 1}_{part.replace('norm', 'bn')}"] = f"transition{block}/{part}"
    return names


NETWORKS = tuple(tuple(_network(depths)) for depths in DEPTHS)


def is_densenet(names: Iterable[str]) -> bool:
    """Whether these Keras names are those of a published DenseNet from its first dense layer on."""
    features = set(names) - set(END)
    return len(features) >= len(STEM) + len(PARTS) and begins(features, NETWORKS)


def today(layers: Iterable[str]) -> dict[str, str]:
    """Each layer's name as Keras gives it today; only DenseNet's were ever others."""
    given = dict.fromkeys(layers)
    older = OLDER if "conv2_block1_0_bn" in given else {}
    renamed = {layer: name for layer, name in older.items() if layer in given and name not in given}
    return {layer: renamed.get(layer, layer) for layer in given}


def from_torchvision(layers: Layers) -> dict[str, str]:
    """Keras names of torchvision's DenseNet, or of its "features" alone, with any depths.

    Nothing where one of the layers in "features" is not a DenseNet's, or of another kind.
    """
    prefix = "features/" if "features/conv0" in layers else ""
    paths = {layer: _SPLIT.sub(r"\1\2", layer[len(prefix) :]) for layer in layers if layer.startswith(prefix)}
    found = [match for path in paths.values() if (match := _DENSE_LAYER.fullmatch(path))]
    if not found or "conv0" not in paths.values():
        return {}
    names = {path: name for name, path in _network(_depths(found)).items()} | {END["bn"]: "bn"}
    named = {layer: names[path] for layer, path in paths.items() if path in names}
    if any(layers[layer] != _kind(name) for layer, name in named.items()) or (prefix and len(named) < len(paths)):
        return {}
    return named | {layer: "predictions" for layer in ("classifier",) if layers.get(layer) == "Dense"}


def to_torchvision(layers: Layers) -> dict[str, str]:
    """torchvision's names of Keras's DenseNet, today's or keras-applications'; nothing for ResNet, named alike."""
    names = today(layers)
    found = [match for name in names.values() if (match := _KERAS.fullmatch(name))]
    if not any(match[3] == "0_bn" for match in found) or any(match[3] not in PARTS for match in found):
        return {}
    depths = _depths(found, first=2)
    paths = {name: f"features/{path}" for name, path in (_network(depths) | {"bn": END["bn"]}).items()}
    paths["predictions"] = END["predictions"]
    return {layer: paths[name] for layer, name in names.items() if name in paths}


def _depths(found: Sequence[re.Match[str]], first: int = 1) -> list[int]:
    """How many layers each dense block has, for all that is found to be among them."""
    depths = [0] * (max(int(match[1]) for match in found) - first + 1)
    for match in found:
        block = int(match[1]) - first
        depths[block] = max(depths[block], int(match[2]))
    return depths


def _kind(name: str) -> str:
    return "BatchNormalization" if name.endswith("bn") else "Conv2D"
