"""Networks whose layers carry their Keras names, by the name a recipe calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import ConvaeError
from .autoencoder import ConvAutoencoder, ConvClassifier, ConvEncoder
from .bayesian_segnet import BayesianSegNet
from .conv_vae import ConvVAE, VAEEncoder
from .densenet import DenseNet121
from .encoder_gru import EncoderGRU
from .image_segmentation import VGGSegNet, VGGUNet
from .model import Model, evaluating
from .options import check
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
    "conv_vae": ConvVAE,
    "encoder_gru": EncoderGRU,
    "densenet121": DenseNet121,
}


def create(name: str, **options: Any) -> Model:
    """The model of that name, with fresh weights; an unknown name or option is refused with the list."""
    if name not in MODELS:
        raise ConvaeError(f"There is no model {name!r}; there are {', '.join(MODELS)}.")
    check(name, MODELS[name], options)
    try:
        return MODELS[name](**options)
    except (ValueError, TypeError) as error:
        raise ConvaeError(str(error)) from error
    except (RuntimeError, MemoryError) as error:  # PyTorch's, of what fits into no memory
        written = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise ConvaeError(f"{name} does not fit into memory with {written}. Give smaller numbers.") from error


__all__ = [
    "MODELS",
    "VGG16",
    "AzaveaUNet",
    "BayesianSegNet",
    "ConvAutoencoder",
    "ConvClassifier",
    "ConvEncoder",
    "ConvVAE",
    "DenseNet121",
    "EncoderGRU",
    "Model",
    "SegNet",
    "SegNetBasic",
    "VAEEncoder",
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
