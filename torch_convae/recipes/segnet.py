"""SegNet and its kin, by stochastic gradient descent as their authors trained them."""

from __future__ import annotations

from dataclasses import replace

from ..training import Stage
from .recipe import Recipe
from .segmenter import segmenter

DECAY = 5e-4  # weight decay of the authors and of DeepNetsForEO
DROPS = (0.48, 0.68, 0.88)  # DeepNetsForEO's rate falls in epochs 25, 35 and 45 of 50

SEGNET = Recipe(
    about="VGG16's convolutions there and back; --weights of VGG16 or VGG16-BN fill the encoder",
    data=None,
    task="masks",
    stages=(Stage("train", epochs=20, lr=1e-2, optimizer="sgd", weight_decay=DECAY, drops=DROPS),),
    batch_size=4,
    layout="contiguous",
    build=segmenter("segnet"),
    class_weights="median",
    augment="flip",
)
SEGNET_BASIC = replace(
    SEGNET,
    about="four levels of 7x7 convolutions, from scratch",
    stages=tuple(replace(stage, lr=1e-1) for stage in SEGNET.stages),
    build=segmenter("segnet_basic"),
)
BAYESIAN = replace(
    SEGNET,
    about="SegNet with dropout, which stays on to say how sure it is",
    build=segmenter("bayesian_segnet"),
)
