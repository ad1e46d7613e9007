"""A training phase as data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TENTH = 0.1
LOWER = 1e-3  # what a loss has to be lower by to be off a plateau


@dataclass(frozen=True)
class Release:
    """What trains from an epoch of its stage on, besides what trained before, at `rate` times the stage's rate.

    `epoch` counts from 0. `batch_statistics` is what it is in `Stage`, and by default what Keras's guide to
    transfer learning advises.
    """

    train: tuple[str, ...]
    epoch: int = 0
    rate: float = 1.0
    batch_statistics: bool = False


@dataclass(frozen=True)
class Stage:
    """So many epochs at this learning rate for the parameters that match `train` (globs); all else is frozen.

    Without `batch_statistics` the released BatchNorm layers normalise by their running statistics and
    leave those as they are; only their weights train. Keras's guide to transfer learning advises it for
    fine-tuning: a switch to the statistics of single batches undoes what the head has learned. With
    `decay` the rate falls in a straight line to zero over the stage; at each share of the stage in `drops` it
    falls to a tenth, and so it does after `plateau` epochs in which the loss of the val split, or of training
    where there is none, was not lower by more than 0.001 (Keras's ReduceLROnPlateau). `optimizer` is one of
    `OPTIMIZERS`; `weight_decay` pulls everything that trains to zero.

    `release` frees more of the network later, or at other rates: what several patterns match belongs to the last
    of them. The rate of what is released rises in a straight line over `warmup` steps. Gradients whose norm, all
    together, is above `clip` are scaled down to it. With `keep_optimizer` the optimizer goes on with what it knows
    of what trained before, at the start of the stage and at each release; without, it begins anew, as it does
    behind a stage with another optimizer.
    """

    name: str
    epochs: int
    lr: float
    train: tuple[str, ...] = ("*",)
    batch_statistics: bool = True
    decay: bool = False
    drops: tuple[float, ...] = ()
    plateau: int = 0  # 0: never
    optimizer: str = "adam"
    weight_decay: float = 0.0
    release: tuple[Release, ...] = ()
    warmup: int = 0
    clip: float | None = None
    keep_optimizer: bool = False

    @property
    def releases(self) -> tuple[Release, ...]:
        """What `train` releases at the start, and all of `release`."""
        return (Release(self.train, 0, 1.0, self.batch_statistics), *self.release)

    def goes_on_from(self, before: Stage) -> bool:
        """Whether its optimizer takes over what that of another stage knows: one of another kind knows other things."""
        return self.keep_optimizer and self.optimizer == before.optimizer

    def rate(self, done: float) -> float:
        """The learning rate when this share of the stage is done."""
        rate = self.lr * TENTH ** sum(done >= drop for drop in self.drops)
        return rate * (1 - done) if self.decay else rate

    def on_plateaus(self, losses: Iterable[float]) -> float:
        """What the plateaus of the losses so far, one an epoch, make of the rate: 1, or a tenth for each of them."""
        best, since, rate = math.inf, 0, 1.0
        for loss in losses if self.plateau else ():
            if loss < best - LOWER:
                best, since = loss, 0
                continue
            since += 1
            if since == self.plateau:
                since, rate = 0, rate * TENTH
        return rate
