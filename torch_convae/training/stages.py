"""A training phase as data."""

from __future__ import annotations

from dataclasses import dataclass


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
    falls to a tenth. `optimizer` is one of `OPTIMIZERS`; `weight_decay` pulls everything that trains to zero.

    `release` frees more of the network later, or at other rates: what several patterns match belongs to the last
    of them. The rate of what is released rises in a straight line over `warmup` steps. Gradients whose norm, all
    together, is above `clip` are scaled down to it. With `keep_optimizer` the optimizer goes on with what it knows
    of what trained before, at the start of the stage and at each release; without, it begins anew.
    """

    name: str
    epochs: int
    lr: float
    train: tuple[str, ...] = ("*",)
    batch_statistics: bool = True
    decay: bool = False
    drops: tuple[float, ...] = ()
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

    def rate(self, done: float) -> float:
        """The learning rate when this share of the stage is done."""
        rate = self.lr * 0.1 ** sum(done >= drop for drop in self.drops)
        return rate * (1 - done) if self.decay else rate
