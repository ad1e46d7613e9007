"""Networks whose layers carry their Keras names, by the name a recipe calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import ConvaeError
from .autoencoder import ConvAutoencoder, ConvClassifier, ConvEncoder
from .bayesian_segnet import BayesianSegNet
from .image_segmentation import VGGSegNet, VGGUNet
from .model import Model, evaluating
from .plain_unets import jocicmarko_unet, shallow_unet, zhixuhao_unet
from .segnet import SegNet, SegNetBasic
from .unet import AzaveaUNet, VGG16UNet
from .vgg import VGG16, VGG16Encoder

vgg16_unet = VGG16UNet

MODELS: Mapping[str, Callable[..., Model]] = {
    "convae": ConvAutoencoder,
    "convae-classifier": ConvClassifier,
    "vgg16": VGG16,
    "vgg16_bn": partial(VGG16, batch_norm=True),
    "vgg16_unet": VGG16UNet,
    "azavea_unet": AzaveaUNet,
    "jocicmarko_unet": jocicmarko_unet,
    "zhixuhao_unet": zhixuhao_unet,
    "shallow_unet": shallow_unet,
    "segnet": SegNet,
    "segnet_basic": SegNetBasic,
    "bayesian_segnet": BayesianSegNet,
    "vgg_segnet": VGGSegNet,
    "vgg_unet": VGGUNet,
}


def create(name: str, **options: Any) -> Model:
    """The model of that name, with fresh weights; an unknown name or option is refused with the list."""
    if name not in MODELS:
        raise ConvaeError(f"There is no model {name!r}; there are {', '.join(MODELS)}.")
    known = inspect.signature(MODELS[name]).parameters
    if unknown := [option for option in options if option not in known]:
        raise ConvaeError(f"{name} takes no option {unknown[0]!r}; it takes {', '.join(known)}.")
    missing = [option for option, what in known.items() if what.default is what.empty and option not in options]
    if missing:
        raise ConvaeError(f"{name} needs {missing[0]}: create({name!r}, {missing[0]}=...).")
    try:
        return MODELS[name](**options)
    except ValueError as error:
        raise ConvaeError(str(error)) from error


__all__ = [
    "MODELS",
    "VGG16",
    "AzaveaUNet",
    "BayesianSegNet",
    "ConvAutoencoder",
    "ConvClassifier",
    "ConvEncoder",
    "Model",
    "SegNet",
    "SegNetBasic",
    "VGG16Encoder",
    "VGG16UNet",
    "VGGSegNet",
    "VGGUNet",
    "create",
    "evaluating",
    "jocicmarko_unet",
    "shallow_unet",
    "vgg16_unet",
    "zhixuhao_unet",
]
