"""The optimizer of a stage, and the rate of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from .stages import Stage


def _adam(released: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """With decay, AdamW: Adam's own division would take the pull away from what is pulled most."""
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    return kind(released, lr=lr, eps=1e-7, weight_decay=weight_decay, fused=True)


def _rmsprop(released: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(released, lr=lr, alpha=0.9, eps=1e-7, weight_decay=weight_decay)


def _sgd(released: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(released, lr=lr, momentum=0.9, weight_decay=weight_decay)


def _adadelta(released: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(released, lr=lr, rho=0.95, eps=1e-7, weight_decay=weight_decay)


OPTIMIZERS: Mapping[str, Callable[[list[nn.Parameter], float, float], torch.optim.Optimizer]] = {
    "adam": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
    "adadelta": _adadelta,
}
"""With the numbers that Keras gives them by default; SGD with the momentum of SegNet's authors."""


def optimizer_for(stage: Stage, released: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The stage's optimizer over what trains, and nothing else."""
    return OPTIMIZERS[stage.optimizer](list(released), stage.lr, stage.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, stage: Stage, epochs_done: float) -> None:
    """The rate that the stage has when so many of its epochs are done."""
    for group in optimizer.param_groups:
        group["lr"] = stage.rate(epochs_done / stage.epochs)
