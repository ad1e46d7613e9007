"""The guard against a late jump of the loss: it looks at what each step left on the device, every now and then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.float64]  # a step a row: its loss, then the norm of each group's gradient

WINDOW = 64  # steps that say what is usual
SHORTEST = 16  # with fewer, nothing is
RECENT = 4  # steps whose mean is compared: a single hard batch is no jump
JUMP = 5.0  # times the usual loss
SPREADS = 6.0  # of the usual log losses about their median: where losses scatter, a jump is larger
FLOOR = 1e-3  # of the first losses: below, a network has converged, and multiples say nothing
TINY = 1e-30
STEPS_BETWEEN_LOOKS = 32

MODES = ("rollback", "stop", "report", "off")


@dataclass(frozen=True)
class Spike:
    """A step at which the loss was far above what it was before, or no number; and what the gradients were.

    `split` is the one on which the loss was measured, where that is not a step of training.
    """

    step: int  # counted from the first that was watched
    loss: float
    usual: float
    gradient_norm: float
    group: int | None  # the one whose gradient grew most
    split: str = ""

    def describe(self, groups: Sequence[str]) -> str:
        """In words."""
        before = f", after about {self.usual:.3g}" if math.isfinite(self.usual) else ""
        if math.isnan(self.gradient_norm) and self.group is None:
            return f"{f'on {self.split} ' if self.split else ''}is {self.loss:.3g}{before}"
        where = f", most of it in {groups[self.group]}" if self.group is not None and len(groups) > 1 else ""
        return f"is {self.loss:.3g}{before}; the norm of the gradient is {self.gradient_norm:.3g}{where}"


class Jump(Exception):
    """A spike that the run does not go on from as if nothing had been."""

    def __init__(self, spike: Spike) -> None:
        super().__init__(str(spike))
        self.spike = spike


class Diverged(Exception):
    """The loss jumped, or is no number, and going back did not help; what was saved before is good."""


@dataclass
class Watch:
    """The last steps of a network: those still on the device, and those that were looked at."""

    rows: list[list[float]] = field(default_factory=list)
    level: float = 0.0  # the usual loss at the beginning
    steps: int = 0  # that were looked at
    pending: list[Tensor] = field(default_factory=list)
    fresh: list[list[float]] = field(default_factory=list)

    def note(self, row: Tensor) -> None:
        """Keep a step's loss and norms where they are: nothing waits for the device."""
        self.pending.append(row)

    def other_groups(self) -> None:
        """From here on the norms are of other groups than before; the losses are those of the same network."""
        self.rows = [row[:1] for row in self.rows]

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return len(self.pending) >= STEPS_BETWEEN_LOOKS

    def look(self) -> Spike | None:
        """Bring what is pending over, and give the next spike in it, if any; to be called until there is none.

        What is a spike depends on the steps alone, not on when somebody looks. After one, what is usual is learnt
        anew.
        """
        if self.pending:
            self.fresh += torch.stack(self.pending).double().cpu().tolist()
            self.pending = []
        while self.fresh:
            row = self.fresh.pop(0)
            old = [[*each, *[math.nan] * (len(row) - len(each))] for each in self.rows[1 - WINDOW - RECENT :]]
            self.rows = [*old, row]
            self.steps += 1
            if len(self.rows) == SHORTEST and not self.level:
                self.level = float(np.median([loss for loss, *_ in self.rows]))
            if (found := spike_in(np.array(self.rows), self.level, self.steps)) is not None:
                self.rows = []
                return found
        return None

    def to_dict(self) -> dict[str, Any]:
        """All of it, for a checkpoint, once there is nothing left to look at."""
        return {"rows": self.rows, "level": self.level, "steps": self.steps}


def spike_in(rows: Rows, level: float, step: int) -> Spike | None:
    """Whether the last of these steps is a spike, beside those before it."""
    losses = rows[:, 0]
    if not math.isfinite(losses[-1]):
        usual = float(np.median(losses[:-1])) if len(losses) > 1 else math.nan
        return Spike(step, float(losses[-1]), usual, *_gradient(rows))
    before = losses[:-RECENT]
    if len(before) < SHORTEST or (usual := max(float(np.median(before)), FLOOR * level)) <= 0:
        return None
    logs = np.log(np.maximum(before, FLOOR * usual))
    spread = float(np.median(np.abs(logs - np.median(logs))))
    recent = float(np.mean(losses[-RECENT:]))
    if recent <= usual * math.exp(max(math.log(JUMP), SPREADS * spread)):
        return None
    return Spike(step, recent, usual, *_gradient(rows))


def _gradient(rows: Rows) -> tuple[float, int | None]:
    """The norm of all gradients at the last step, and which group's grew most over what it was."""
    norms = rows[:, 1:]
    if not norms.shape[1]:
        return math.nan, None
    total = float(np.sqrt((norms[-1] ** 2).sum()))
    if not np.isfinite(norms[-1]).all():
        return total, int(np.flatnonzero(~np.isfinite(norms[-1]))[0])
    with np.errstate(all="ignore"):
        usual = [
            np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in norms[:-1].T
        ]
        growth = norms[-1] / np.maximum(usual, TINY)
    return total, int(np.argmax(growth))
