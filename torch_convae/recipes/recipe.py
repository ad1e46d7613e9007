"""What a recipe is: defaults that follow an original, and how its networks and stages are made for given data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ..data import Augmentation, DataSet
from ..groups import Groups
from ..models import Model
from ..regrouping import Regrouping
from ..training import Phase, Stage, Wanted
from ..weights import Plan, load_weights

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

    def load(self, model: Model) -> Plan | None:
        """Fill the model from the weights by name, its head's rows from those of the old classes where regrouped."""
        if self.weights is None:
            return None
        return load_weights(model, self.weights, classes=(self.old_classes, self.groups) if self.groups else None)


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
