"""DenseNet-121 under Dense layers of its own: its ImageNet weights frozen at first, then tuned."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ..models import create
from ..models.dropout import set_dropout
from ..training import Phase, Stage, classification
from .recipe import Built, Order, Recipe

HEAD = (256,)


def _build(order: Order) -> Built:
    shared = {"classes": len(order.data.classes), "head": HEAD}
    options = {
        "in_channels": order.channels(lambda count: create("densenet121", in_channels=count, **shared)),
        **shared,
    }
    model = create("densenet121", **options)
    set_dropout(model, order.dropout)
    plan = order.load(model)
    stages = order.stages
    if plan is None:  # there is nothing worth freezing
        stages = tuple(replace(stage, train=("*",), batch_statistics=True) for stage in stages)
    task = classification(order.loss, order.class_weights)
    phases = tuple(Phase(stage, model, task) for stage in stages if stage.epochs)
    return Built(phases, nn.ModuleDict({"network": model}), model, "densenet121", options, plan)


RECIPE = Recipe(
    about="DenseNet-121: train Dense layers on the frozen features of --weights, then fine-tune all",
    data="fashion-mnist-mini",
    task="classes",
    stages=(
        Stage("head", epochs=2, lr=1e-3, train=("classifier.*",), decay=True),
        Stage("finetune", epochs=1, lr=3e-4, batch_statistics=False, decay=True),
    ),
    batch_size=32,
    layout="channels-last",
    build=_build,
    size="32",
)
