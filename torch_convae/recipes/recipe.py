"""What a recipe is: defaults that follow an original, and how its networks and stages are made for given data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data import Augmentation, DataSet
from ..errors import ConvaeError
from ..groups import Groups
from ..models import Model
from ..regrouping import Regrouping
from ..training import Phase, Stage, Wanted
from ..weights import Plan, head_path, load_weights, read_weights, takes

COLOURS = 3
TaskKind = Literal["classes", "masks", "sequences"]


@dataclass(frozen=True)
class Order:
    """What was asked of a recipe: the data, its stages as changed by flags, and where weights come from."""

    data: DataSet
    stages: tuple[Stage, ...]
    weights: Path | None = None
    loss: str = "cross-entropy"
    class_weights: Tensor | None = None
    dropout: float | None = None
    old_classes: tuple[str, ...] = ()
    groups: Groups | None = None

    def channels(self, make: Callable[[int], Model]) -> int:
        """How many channels the network takes: the images', but those of colours for grey ones where the weights do."""
        own: int = self.data.image_shape[-3]
        if own != 1 or self.weights is None:
            return own
        source = read_weights(self.weights)
        with torch.device("meta"):
            grey, coloured = (takes(make(channels), source) for channels in (1, COLOURS))
        return COLOURS if coloured and not grey else own

    def load(self, model: Model) -> Plan | None:
        """Fill the model from the weights by name, its head's rows from those of the old classes where regrouped."""
        if self.weights is None:
            return None
        classes = (self.old_classes, self.groups) if self.groups else None
        try:
            plan = load_weights(model, self.weights, classes=classes)
        except ConvaeError:
            head = head_path(model)
            if classes or not takes(model, read_weights(self.weights), f"{head}.*"):
                raise
            plan = load_weights(model, self.weights, skip=f"{head}.*")
            print(f"{self.weights} has other classes than {self.data.name}: {head} begins anew.")
        if self.data.image_shape[-3] == 1 and model.in_channels == COLOURS:
            model.preprocessing.channels = COLOURS
        return plan


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
    wanted: Wanted | None = None  # what ends a stage before its last epoch, or which epoch is kept
    regrouping: Regrouping | None = None
    old: Model | None = None  # what was regrouped


@dataclass(frozen=True)
class Recipe:
    """Defaults that follow the original, each of which a flag overrides."""

    about: str
    data: str | None
    task: TaskKind
    stages: tuple[Stage, ...]
    batch_size: int
    layout: str
    build: Callable[[Order], Built]
    loss: str = "cross-entropy"
    class_weights: str = "none"
    augment: str = "none"
    size: str | None = None
    pretraining: tuple[str, ...] = ()  # stages that a network which is already trained has behind it
