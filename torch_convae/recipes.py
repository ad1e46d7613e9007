"""What each training does: its models, its stages, and what it is measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import Config, per_stage
from .data import VOID, Augmentation, DataSet, FileSplit, Split, augmentation
from .errors import ConvaeError
from .models import Model, VGG16UNet, create
from .models.preprocessing import Preprocess
from .training import Phase, Stage, classification, reconstruction, segmentation
from .weights import Plan, load_weights, recorded_options


@dataclass(frozen=True)
class Built:
    """A recipe on given data: the phases in order, all their models, and how to create the final one again."""

    phases: tuple[Phase, ...]
    models: nn.ModuleDict
    final: Model
    name: str
    options: Mapping[str, Any]
    plan: Plan | None = None
    augment: Augmentation | None = None


@dataclass(frozen=True)
class Recipe:
    """Defaults that follow the original, each of which a flag overrides."""

    about: str
    data: str | None
    task: str
    stages: tuple[Stage, ...]
    batch_size: int
    layout: str
    build: Callable[[DataSet, tuple[Stage, ...], Path | None], Built]


def build(recipe: Recipe, config: Config, data: DataSet) -> Built:
    """The recipe's models and phases for this data; data of another kind is refused."""
    if data.task != recipe.task:
        raise ConvaeError(f"{config.recipe} trains on {_KINDS[recipe.task]}; {data.name} holds {_KINDS[data.task]}.")
    if data.task == "classes":
        _refuse_single_values(data, config.batch_size or recipe.batch_size)
    built = recipe.build(data, stages(recipe, config), Path(config.weights) if config.weights else None)
    if not built.phases:
        raise ConvaeError("Every stage has 0 epochs. Give at least one with --epochs.")
    return replace(built, augment=augmentation(config.augment or "none", config.seed))


def _refuse_single_values(data: DataSet, batch_size: int) -> None:
    """BatchNorm cannot train on one value a channel, which the code of one tiny image is."""
    count, _, height, width = data.splits["train"].shape
    if min(count, batch_size) == 1 and max(height, width) < 8:
        raise ConvaeError(
            f"Batches of one image of {height} x {width} are too little for BatchNorm. Give a larger --size or more "
            "images a step with --batch-size."
        )


def stages(recipe: Recipe, config: Config) -> tuple[Stage, ...]:
    """The recipe's stages with the epochs and rates that were asked for."""
    epochs = per_stage("epochs", config.epochs, [stage.epochs for stage in recipe.stages])
    rates = per_stage("lr", config.lr, [stage.lr for stage in recipe.stages])
    if any(number != int(number) for number in epochs):
        raise ConvaeError(f"--epochs {config.epochs!r} should hold whole numbers.")
    changed = zip(recipe.stages, epochs, rates, strict=True)
    return tuple(replace(stage, epochs=int(number), lr=rate) for stage, number, rate in changed)


_KINDS = {"classes": "images with one class each", "masks": "images with masks"}


def _convae(data: DataSet, stages: tuple[Stage, ...], weights: Path | None) -> Built:
    channels, *size = data.image_shape
    options = {"classes": len(data.classes), "in_channels": channels, "size": tuple(size)}
    autoencoder, classifier = create("convae", in_channels=channels), create("convae-classifier", **options)
    classifier.encoder = autoencoder.encoder  # one encoder, which the stages hand on
    plan = _convae_weights(autoencoder, classifier, weights) if weights else None
    models = nn.ModuleDict({"autoencoder": autoencoder, "classifier": classifier})
    tasks = {"pretrain": (autoencoder, reconstruction())}
    phases = [Phase(stage, *tasks.get(stage.name, (classifier, classification()))) for stage in stages if stage.epochs]
    if phases and phases[-1].model is autoencoder:  # no stage with a head was asked for
        return Built(tuple(phases), models, autoencoder, "convae", {"in_channels": channels}, plan)
    return Built(tuple(phases), models, classifier, "convae-classifier", options, plan)


def _convae_weights(autoencoder: Model, classifier: Model, weights: Path) -> Plan:
    """A file of either network; the decoder of one and the head of the other have a place in just one."""
    load_weights(autoencoder, weights)
    return load_weights(classifier, weights)


SMALLEST = 16  # the encoder halves four times
CALIBRATING = 16  # images


def _unet(data: DataSet, stages: tuple[Stage, ...], weights: Path | None) -> Built:
    channels = data.image_shape[0]
    options: dict[str, Any] = {"classes": len(data.classes), "in_channels": channels}
    model = VGG16UNet(**options)
    height, width = data.image_shape[1:]
    if min(height, width) < SMALLEST:
        raise ConvaeError(
            f"unet takes images of at least {SMALLEST} pixels a side, not {height} x {width}. Set --size."
        )
    plan = load_weights(model, weights) if weights else None
    if plan is None:
        # There is nothing worth freezing, and no ImageNet statistics to keep to: numbers around zero train best.
        stages = tuple(replace(stage, train=("*",)) for stage in stages)
        model.preprocessing = Preprocess("torch" if channels == 3 else "unit")
    elif weights and any(copy.target.startswith("decoder.") for copy in plan.copied.values()):
        # A decoder that was trained before goes on with the scales it knows: Keras's are all 1.
        model.scales = options["scales"] = tuple(recorded_options(weights).get("scales", model.scales))
    else:
        model.scales = options["scales"] = map_scales(model, data.splits["train"])
    phases = tuple(Phase(stage, model, segmentation(VOID)) for stage in stages if stage.epochs)
    return Built(phases, nn.ModuleDict({"unet": model}), model, "vgg16_unet", options, plan)


def map_scales(model: VGG16UNet, split: Split | FileSplit) -> tuple[float, ...]:
    """The standard deviation of each of the encoder's maps over a few of the images."""
    few, _ = split.take(torch.linspace(0, len(split) - 1, min(len(split), CALIBRATING)).long())
    with torch.inference_mode():
        maps = model.encoder.eval()(model.preprocessing(few))
    # Three digits are plenty, and the same on every machine.
    return tuple(float(f"{float(m.std()):.3g}") or 1.0 for m in maps)


RECIPES: Mapping[str, Recipe] = {
    "convae": Recipe(
        about="conv autoencoder: pretrain it, freeze its encoder under a classifier's head, then fine-tune all",
        data="fashion-mnist-mini",
        task="classes",
        stages=(
            Stage("pretrain", epochs=2, lr=1e-3),
            Stage("head", epochs=4, lr=1e-3, train=("head.*",), decay=True),
            Stage("finetune", epochs=2, lr=3e-4, batch_statistics=False, decay=True),
        ),
        batch_size=64,
        layout="channels-last",
        build=_convae,
    ),
    "unet": Recipe(
        about="U-Net on VGG16: train the decoder on the frozen encoder of --weights, then fine-tune all",
        data=None,
        task="masks",
        stages=(
            Stage("head", epochs=4, lr=1e-3, train=("decoder.*",), decay=True),
            Stage("finetune", epochs=8, lr=1e-4, decay=True),
        ),
        batch_size=8,
        layout="contiguous",
        build=_unet,
    ),
}
