"""A training phase as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """So many epochs at this learning rate for the parameters that match `train` (globs); all else is frozen.

    Without `batch_statistics` the released BatchNorm layers normalise by their running statistics and
    leave those as they are; only their weights train. Keras's guide to transfer learning advises it for
    fine-tuning: a switch to the statistics of single batches undoes what the head has learned. With
    `decay` the rate falls in a straight line to zero over the stage; at each share of the stage in `drops` it
    falls to a tenth. `optimizer` is one of `OPTIMIZERS`; `weight_decay` pulls everything that trains to zero.
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

    def rate(self, done: float) -> float:
        """The learning rate when this share of the stage is done."""
        rate = self.lr * 0.1 ** sum(done >= drop for drop in self.drops)
        return rate * (1 - done) if self.decay else rate
