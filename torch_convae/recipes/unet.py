"""U-Nets: on VGG16, whose encoder may come from ImageNet, and those that their authors trained from scratch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ..data import VOID, FileSplit, Split
from ..errors import ConvaeError
from ..models import VGG16UNet
from ..models.dropout import set_dropout
from ..models.preprocessing import Preprocess
from ..training import Phase, Stage, segmentation
from .recipe import Built, Order, Recipe
from .segmenter import segmenter

SMALLEST = 16  # the encoder halves four times
CALIBRATING = 16  # images


def _build(order: Order) -> Built:
    _, height, width = order.data.image_shape
    classes = len(order.data.classes)
    channels = order.channels(lambda count: VGG16UNet(classes, count))
    options: dict[str, Any] = {"classes": classes, "in_channels": channels}
    model = VGG16UNet(**options)
    if min(height, width) < SMALLEST:
        raise ConvaeError(
            f"unet takes images of at least {SMALLEST} pixels a side, not {height} x {width}. Set --size."
        )
    set_dropout(model, order.dropout)
    plan = order.load(model)
    stages = order.stages
    if plan is None:
        # There is nothing worth freezing, and no ImageNet statistics to keep to: numbers around zero train best.
        stages = tuple(replace(stage, train=("*",)) for stage in stages)
        model.preprocessing = Preprocess("torch" if channels == 3 else "unit")
    else:
        scales = map_scales(model, order.data.splits["train"])
        if any(copy.target.startswith("decoder.") for copy in plan.copied.values()):
            model.rescale(scales)  # what was trained before goes on as it is
        else:
            model.scales = scales
    task = segmentation(VOID, order.loss, order.class_weights)
    phases = tuple(Phase(stage, model, task) for stage in stages if stage.epochs)
    return Built(phases, nn.ModuleDict({"unet": model}), model, "vgg16_unet", options, plan)


def map_scales(model: VGG16UNet, split: Split | FileSplit) -> tuple[float, ...]:
    """The standard deviation of each of the encoder's maps over a few of the images."""
    few, _ = split.take(torch.linspace(0, len(split) - 1, min(len(split), CALIBRATING)).long())
    with torch.inference_mode():
        maps = model.encoder.eval()(model.preprocessing(few))
    # Three digits are plenty, and the same on every machine.
    return tuple(float(f"{float(m.std()):.3g}") or 1.0 for m in maps)


_of_masks = partial(Recipe, data=None, task="masks", layout="contiguous")

VGG16_UNET = _of_masks(
    about="U-Net on VGG16: train the decoder on the frozen encoder of --weights, then fine-tune all",
    stages=(
        Stage("head", epochs=4, lr=1e-3, train=("decoder.*",), decay=True),
        Stage("finetune", epochs=8, lr=1e-4, decay=True),
    ),
    batch_size=8,
    build=_build,
)
AZAVEA = _of_masks(
    about="azavea's U-Net from scratch, on windows flipped and turned",
    stages=(Stage("train", epochs=100, lr=1e-3, plateau=10),),
    batch_size=8,
    build=segmenter("azavea_unet"),
    augment="flip,vflip,turn",
)
JOCICMARKO = _of_masks(
    about="the ultrasound U-Net, by the Dice loss at a small rate",
    stages=(Stage("train", epochs=20, lr=1e-5),),
    batch_size=32,
    build=segmenter("jocicmarko_unet"),
    loss="dice",
    size="96",
)
ZHIXUHAO = _of_masks(
    about="zhixuhao's U-Net for membranes, with dropout, on images flipped, shifted and zoomed",
    stages=(Stage("train", epochs=100, lr=1e-4),),
    batch_size=2,
    build=segmenter("zhixuhao_unet"),
    augment="flip,scale,crop",
)
SHALLOW = _of_masks(
    about="image-segmentation-keras's U-Net of three levels, by Adadelta",
    stages=(Stage("train", epochs=5, lr=1.0, optimizer="adadelta"),),
    batch_size=2,
    build=segmenter("shallow_unet"),
)
