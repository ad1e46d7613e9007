"""A stage with all it needs to run, and where in its phases a run is."""

from __future__ import annotations

from collections.abc import Iterator
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
    total: float = 0.0  # of the losses of the epoch's steps
    seconds: float = 0.0
    since_good: int = 0  # steps since the last checkpoint that the guard may go back to
    slower: float = 1.0  # what the guard has made of the stage's rates
    frozen: str = ""  # the hash at the start of the segment, once it has begun
    proofs: list[dict[str, Any]] = field(default_factory=list)  # of the stage's segments that are done
    features: list[str] = field(default_factory=list)  # where the segment keeps them, and what is said of it
    spikes: list[dict[str, Any]] = field(default_factory=list)  # of all stages
    history: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def losses(self, stage: str) -> Iterator[float]:
        """One for each epoch of a stage that is done: of the val split, or of training where there is none."""
        return (line.get("val_loss", line["train_loss"]) for line in self.history if line["stage"] == stage)

    def next_epoch(self) -> None:
        """An epoch is done."""
        self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0

    def next_segment(self, proof: dict[str, Any]) -> None:
        """A segment is done, and what was frozen is proved to be what it was."""
        self.proofs.append(proof)
        self.frozen, self.features = "", []

    def next_phase(self) -> None:
        """All epochs of a phase are done."""
        self.phase, self.epochs_before, self.epoch = self.phase + 1, self.epochs_before + self.epoch, 0
        self.seconds, self.slower, self.proofs = 0.0, 1.0, []
