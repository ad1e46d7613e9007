"""The optimizer of a stage, and the rate of each step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .stages import Stage


def optimizer_for(stage: Stage, released: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam with Keras's epsilon over what trains, and nothing else."""
    return torch.optim.Adam(released, lr=stage.lr, eps=1e-7, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, stage: Stage, epochs_done: float) -> None:
    """The rate that the stage has when so many of its epochs are done."""
    for group in optimizer.param_groups:
        group["lr"] = stage.rate(epochs_done / stage.epochs)
