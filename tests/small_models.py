"""Every model small enough for a test, with images that it takes: sides are odd where they may be."""

from typing import Any

import torch

from torch_convae.models import Model, create

SEGNET = {"classes": 3, "widths": (4, 6, 8, 10, 12)}
PLAIN = {"classes": 3, "widths": (4, 6, 8)}
VGG = {"widths": (4, 6, 8, 10, 12), "hidden": 16}
VAE = {"widths": (4, 6, 8), "hidden": 16, "code": 5}
DENSENET = {"depths": (2, 1, 1, 1)}
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "convae": ({}, (13, 22)),
    "convae-classifier": ({"classes": 3, "size": (13, 22)}, (13, 22)),
    "vgg16": ({"classes": 3, "size": (32, 70), **VGG}, (33, 70)),
    "vgg16_bn": (VGG, (37, 45)),
    "vgg16_unet": ({"classes": 3, "blocks": 2, "scales": (4.0, 0.5)}, (13, 22)),
    "azavea_unet": ({"classes": 3, "blocks": 3}, (12, 20)),
    "jocicmarko_unet": (PLAIN, (12, 20)),
    "zhixuhao_unet": (PLAIN, (12, 20)),
    "shallow_unet": (PLAIN, (12, 20)),
    "segnet": (SEGNET, (45, 38)),
    "segnet_basic": ({"classes": 3, "width": 8}, (45, 38)),
    "bayesian_segnet": (SEGNET, (45, 38)),
    "vgg_segnet": ({"classes": 3, "widths": (4, 6, 8, 10)}, (37, 48)),
    "vgg_unet": ({"classes": 3, "widths": (4, 6, 8, 10)}, (32, 48)),
    "conv_vae": ({"size": (13, 22), **VAE}, (13, 22)),
    "encoder_gru": ({"size": (13, 22), "outputs": 3, "units": 7, **VAE}, (4, 13, 22)),
    "densenet121": ({"classes": 3, **DENSENET}, (33, 45)),
}
# Variants that have layers or paths of their own.
VARIANTS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "convae, a code of 5": ("convae", {"code": 5, "size": (13, 22), "noise": 0.1}, (13, 22)),
    "convae-classifier, a code of 5": ("convae-classifier", {"classes": 3, "code": 5, "size": (13, 22)}, (13, 22)),
    "jocicmarko_unet, up-sampling": ("jocicmarko_unet", {"up": "upsample", **PLAIN}, (12, 20)),
    "densenet121, a head": ("densenet121", {"classes": 7, "head": (6, 5), **DENSENET}, (33, 45)),
    "densenet121, flattened": ("densenet121", {"classes": 7, "pool": "flatten", "size": 64, **DENSENET}, (64, 64)),
    "densenet121, features": ("densenet121", DENSENET, (33, 45)),
}
EVERY = [*SMALL, *VARIANTS]


def small(name: str, channels: int = 3, **options: Any) -> tuple[Model, torch.Tensor]:
    """The model in evaluation mode, with statistics unlike those it starts with, and two images."""
    torch.manual_seed(0)
    model_name, own, size = VARIANTS[name] if name in VARIANTS else (name, *SMALL[name])
    model = create(model_name, **{"in_channels": channels, **own, **options}).eval()
    for buffer_name, buffer in model.named_buffers():
        if "running_" in buffer_name:
            buffer.uniform_(0.5, 1.5)
    *steps, height, width = size
    return model, torch.randn(2, *steps, channels, height, width)
