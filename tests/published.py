"""The layers of published networks, by name and class, as PyTorch and as Keras have them."""

from typing import Any

import torch
from torch import nn

Layers = dict[str, str]
CONV, BN, DENSE = "Conv2D", "BatchNormalization", "Dense"
KINDS = ((nn.Conv2d, CONV), (nn.Linear, DENSE), (nn.modules.batchnorm._BatchNorm, BN), (nn.ConvTranspose2d, "Other"))
VGG = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def layers_of(module: nn.Module) -> Layers:
    """The layers of a module with weights, in its order, each with its Keras class."""
    return {
        path.replace(".", "/"): kind
        for path, layer in module.named_modules()
        for base, kind in KINDS
        if isinstance(layer, base)
    }


def unallocated(build: Any, *arguments: Any, **options: Any) -> Layers:
    """The layers of a network that takes no memory."""
    with torch.device("meta"):
        return layers_of(build(*arguments, **options))


def keras_vgg(depths: tuple[int, ...], norm: bool) -> Layers:
    """VGG's convolutions as keras.applications names them, each with its normalisation."""
    layers: Layers = {}
    for block, depth in enumerate(depths, start=1):
        for conv in range(1, depth + 1):
            layers[f"block{block}_conv{conv}"] = CONV
            layers |= {f"block{block}_conv{conv}_bn": BN} if norm else {}
    return layers
