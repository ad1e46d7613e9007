"""A stage with all it needs to run, and where in its phases a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .stages import Stage
from .tasks import Task


@dataclass(frozen=True)
class Phase:
    """A stage with the model it trains and what for."""

    stage: Stage
    model: nn.Module
    task: Task


@dataclass
class Progress:
    """Where a run is: all that, with the weights and the optimizer, makes it go on bit for bit."""

    phase: int = 0
    epochs_before: int = 0  # those of the phases that are done
    epoch: int = 0
    step: int = 0
    total: float = 0.0
    seconds: float = 0.0
    frozen: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
