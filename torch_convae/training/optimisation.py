"""The optimizer of a stage, and the rate of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from .phase import Progress
from .segments import Segment
from .stages import Stage

Groups = list[Any]  # of parameters, or of dicts with them


def _adam(groups: Groups, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """With decay, AdamW: Adam's own division would take the pull away from what is pulled most."""
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    return kind(groups, lr=lr, eps=1e-7, weight_decay=weight_decay, fused=True)


def _rmsprop(groups: Groups, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=lr, alpha=0.9, eps=1e-7, weight_decay=weight_decay)


def _sgd(groups: Groups, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=weight_decay)


def _adadelta(groups: Groups, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(groups, lr=lr, rho=0.95, eps=1e-7, weight_decay=weight_decay)


OPTIMIZERS: Mapping[str, Callable[[Groups, float, float], torch.optim.Optimizer]] = {
    "adam": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
    "adadelta": _adadelta,
}
"""With the numbers that Keras gives them by default; SGD with the momentum of SegNet's authors."""


def optimizer_for(stage: Stage, released: Iterable[Any]) -> torch.optim.Optimizer:
    """The stage's optimizer over what trains, and nothing else: parameters, or groups of them."""
    return OPTIMIZERS[stage.optimizer](list(released), stage.lr, stage.weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, stage: Stage, segment: Segment, progress: Progress, steps: int) -> None:
    """The rate of each group at a step of an epoch of so many: its share of the stage's, less while it warms up."""
    done = progress.epoch + progress.step / steps
    slower = progress.slower * stage.on_plateaus(progress.losses(stage.name))
    for own, group in zip(optimizer.param_groups, segment.groups, strict=True):
        since = (done - group.release.epoch) * steps + 1
        warm = min(1.0, since / stage.warmup) if stage.warmup else 1.0
        own["lr"] = stage.rate(done / stage.epochs) * group.release.rate * slower * warm
