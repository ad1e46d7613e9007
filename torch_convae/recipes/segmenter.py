"""Any segmentation network that trains as one: what the recipes of plain U-Nets and SegNets share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..data import VOID
from ..models import create
from ..models.dropout import set_dropout
from ..training import Phase, segmentation
from .recipe import Built, Order


def segmenter(name: str, **fixed: Any) -> Callable[[Order], Built]:
    """Builds the model of that name for the data's classes and channels; weights are loaded by name."""

    def build(order: Order) -> Built:
        shared = {"classes": len(order.data.classes), **fixed}
        channels = order.channels(lambda count: create(name, in_channels=count, **shared))
        options = {"in_channels": channels, **shared}
        model = create(name, **options)
        set_dropout(model, order.dropout)
        plan = order.load(model)
        task = segmentation(VOID, order.loss, order.class_weights)
        phases = tuple(Phase(stage, model, task) for stage in order.stages if stage.epochs)
        return Built(phases, nn.ModuleDict({"network": model}), model, name, options, plan)

    return build
