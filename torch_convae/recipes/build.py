"""A recipe's networks and phases for given data and flags, or the one line that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..config import Config, per_stage
from ..data import DataSet, augmentation
from ..errors import ConvaeError
from ..groups import read_groups
from ..models import Model
from ..regrouping import prepare
from ..training import Objective, Stage, class_loss, class_weights
from ..weights import recorded_classes
from .recipe import Built, Order, Recipe

MOVING = ("flip", "vflip", "turn", "scale")  # of a sequence, with speeds and directions
_KINDS = {
    "classes": "images with one class each",
    "masks": "images with masks",
    "sequences": "sequences of images with values",
}


def build(recipe: Recipe, config: Config, data: DataSet) -> Built:
    """The recipe's models and phases for this data; data of another kind is refused."""
    if data.task != recipe.task:
        raise ConvaeError(f"{config.recipe} trains on {_KINDS[recipe.task]}; {data.name} holds {_KINDS[data.task]}.")
    augment = augmentation(config.augment or recipe.augment, config.seed)
    if augment and recipe.task == "sequences" and (moving := [name for name in MOVING if name in augment.changes]):
        raise ConvaeError(
            f"--augment {','.join(moving)} would move what the values of a sequence speak of, and leave the values. "
            f"Give crop or colour."
        )
    order = _order(recipe, config, data)
    built = recipe.build(order) if config.classes is None else _regrouped(recipe, config, order)
    if not built.phases:
        raise ConvaeError("Every stage has 0 epochs. Give at least one with --epochs.")
    _try(built, data)
    return replace(built, augment=augment)


def _order(recipe: Recipe, config: Config, data: DataSet) -> Order:
    return Order(
        data=data,
        stages=stages(recipe, config),
        weights=weights_file(config.weights) if config.weights else None,
        loss=_loss(recipe, config),
        class_weights=None if config.classes else _class_weights(recipe, config, data),  # of the new classes
        dropout=config.dropout,
    )


def _loss(recipe: Recipe, config: Config) -> str:
    if recipe.task == "sequences":
        if config.loss or config.class_weights:
            raise ConvaeError(f"{config.recipe} has no classes. Leave --loss and --class-weights out.")
        return recipe.loss
    class_loss(config.loss or recipe.loss)  # refused here, before anything is built
    return config.loss or recipe.loss


def _class_weights(recipe: Recipe, config: Config, data: DataSet) -> Tensor | None:
    return class_weights(config.class_weights or recipe.class_weights, data.classes, data.splits["train"].all_targets())


def _regrouped(recipe: Recipe, config: Config, order: Order) -> Built:
    """The same with the head of a trained network carried over to other classes."""
    if order.weights is None:
        raise ConvaeError("--classes regroups what is trained already: name the run, or its weights, with --weights.")
    data = order.data
    groups = read_groups(config.classes or "", data.classes)
    old = _trained(recipe, order)
    regrouping = prepare(data, groups, config.seed)
    weights = _class_weights(recipe, config, regrouping.data)
    other = replace(
        order, data=regrouping.data, class_weights=weights, old_classes=data.classes, groups=regrouping.groups
    )
    return replace(recipe.build(other), regrouping=regrouping, old=old)


def _trained(recipe: Recipe, order: Order) -> Model:
    """The network as it was trained, under all its classes."""
    assert order.weights is not None
    known = recorded_classes(order.weights)
    if known and known != order.data.classes:
        raise ConvaeError(
            f"{order.weights} was trained on the classes {', '.join(known)}, but {order.data.name} has "
            f"{', '.join(order.data.classes)}. Give the data it was trained on."
        )
    built = recipe.build(order)
    assert built.plan is not None
    if left := [name for name in built.plan.untouched if not name.endswith("num_batches_tracked")]:
        raise ConvaeError(f"{order.weights} leaves {left[0]} of {built.name} unfilled. Give a whole trained network.")
    built.final.classes = order.data.classes
    return built.final


def weights_file(name: str) -> Path:
    """The file of that name, or that of the run in the folder of that name."""
    path = Path(name)
    if not path.exists():  # seen at once, before a network is built for it
        raise ConvaeError(f"{path} does not exist. Check the path.")
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").exists():
        raise ConvaeError(f"{path} holds no model.safetensors. Finish the run, or name another.")
    return path / "model.safetensors"


def _try(built: Built, data: DataSet) -> None:
    """One example through the final network: what it cannot take shows before anything is written."""
    example, _ = data.splits["train"].take(torch.zeros(1, dtype=torch.int64))
    try:
        with torch.inference_mode():
            Objective(built.final.eval(), built.phases[-1].task).output(built.final.preprocessing(example))
    except ConvaeError as error:
        raise ConvaeError(f"{error} --size resizes them.") from error


def stages(recipe: Recipe, config: Config) -> tuple[Stage, ...]:
    """The recipe's stages with the epochs, rates and decay that were asked for."""
    behind = recipe.pretraining if config.classes else ()
    usual = [0 if stage.name in behind else stage.epochs for stage in recipe.stages]
    epochs = per_stage("epochs", config.epochs, usual)
    rates = per_stage("lr", config.lr, [stage.lr for stage in recipe.stages])
    decays = per_stage("weight-decay", config.weight_decay, [stage.weight_decay for stage in recipe.stages])
    if any(number != int(number) for number in epochs):
        raise ConvaeError(f"--epochs {config.epochs!r} should hold whole numbers.")
    return tuple(
        replace(stage, epochs=int(number), lr=rate, weight_decay=decay)
        for stage, number, rate, decay in zip(recipe.stages, epochs, rates, decays, strict=True)
    )
