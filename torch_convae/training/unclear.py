"""Stages that no run could make sense of are refused before anything trains."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConvaeError
from .optimisation import OPTIMIZERS
from .stages import Stage


def refuse_unclear(stages: Sequence[Stage]) -> None:
    """Figures, plateaus and rollbacks go by a stage's name, so that each has its own."""
    for index, stage in enumerate(stages):
        if any(stage.name == other.name for other in stages[:index]):
            raise ConvaeError(f"Two stages are called {stage.name!r}. Give each a name of its own.")
        if stage.epochs < 1:
            raise ConvaeError(f"Stage {stage.name} has {stage.epochs} epochs. Leave it out.")
        if not stage.train:
            raise ConvaeError(f"Stage {stage.name} trains nothing. Say what, by patterns of parameter names.")
        if stage.optimizer not in OPTIMIZERS:
            there = ", ".join(OPTIMIZERS)
            raise ConvaeError(f"Stage {stage.name}: there is no optimizer {stage.optimizer!r}; there are {there}.")
