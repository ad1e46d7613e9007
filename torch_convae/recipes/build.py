"""A recipe's networks and phases for given data and flags, or the one line that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..config import Config, per_stage
from ..data import DataSet, augmentation
from ..errors import ConvaeError
from ..training import Stage, class_loss, class_weights
from .recipe import Built, Order, Recipe

_KINDS = {
    "classes": "images with one class each",
    "masks": "images with masks",
    "sequences": "sequences of images with values",
}


def build(recipe: Recipe, config: Config, data: DataSet) -> Built:
    """The recipe's models and phases for this data; data of another kind is refused."""
    if data.task != recipe.task:
        raise ConvaeError(f"{config.recipe} trains on {_KINDS[recipe.task]}; {data.name} holds {_KINDS[data.task]}.")
    if data.task == "classes":
        _refuse_single_values(data, config.batch_size or recipe.batch_size)
    augment = augmentation(config.augment or recipe.augment, config.seed)
    built = recipe.build(_order(recipe, config, data))
    if not built.phases:
        raise ConvaeError("Every stage has 0 epochs. Give at least one with --epochs.")
    _try(built, data)
    return replace(built, augment=augment)


def _order(recipe: Recipe, config: Config, data: DataSet) -> Order:
    loss = config.loss or recipe.loss
    class_loss(loss)  # refused here, before anything is built
    weights = class_weights(
        config.class_weights or recipe.class_weights, data.classes, data.splits["train"].all_targets()
    )
    return Order(
        data=data,
        stages=stages(recipe, config),
        weights=Path(config.weights) if config.weights else None,
        loss=loss,
        class_weights=weights,
        dropout=config.dropout,
    )


def _refuse_single_values(data: DataSet, batch_size: int) -> None:
    """BatchNorm cannot train on one value a channel, which the code of one tiny image is."""
    count, *_, height, width = data.splits["train"].shape
    if min(count, batch_size) == 1 and max(height, width) < 8:
        raise ConvaeError(
            f"Batches of one image of {height} x {width} are too little for BatchNorm. Give a larger --size or more "
            "images a step with --batch-size."
        )


def _try(built: Built, data: DataSet) -> None:
    """One image through the final network: what it cannot take shows before anything is written."""
    image, _ = data.splits["train"].take(torch.zeros(1, dtype=torch.int64))
    with torch.inference_mode():
        built.final.eval()(built.final.preprocessing(image))


def stages(recipe: Recipe, config: Config) -> tuple[Stage, ...]:
    """The recipe's stages with the epochs, rates and decay that were asked for."""
    epochs = per_stage("epochs", config.epochs, [stage.epochs for stage in recipe.stages])
    rates = per_stage("lr", config.lr, [stage.lr for stage in recipe.stages])
    decays = per_stage("weight-decay", config.weight_decay, [stage.weight_decay for stage in recipe.stages])
    if any(number != int(number) for number in epochs):
        raise ConvaeError(f"--epochs {config.epochs!r} should hold whole numbers.")
    return tuple(
        replace(stage, epochs=int(number), lr=rate, weight_decay=decay)
        for stage, number, rate, decay in zip(recipe.stages, epochs, rates, decays, strict=True)
    )
