"""The gradients of a step: how large they are, and no larger than allowed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .segments import Group
from .shards import whole


def gradient_norms(groups: Sequence[Group], device: torch.device) -> list[Tensor]:
    """The norm of the gradient of each group, on the device."""
    gradients = ([p.grad for p in group.parameters.values() if p.grad is not None] for group in groups)
    return [whole(nn.utils.get_total_norm(each)).to(device) for each in gradients]


def clip(groups: Sequence[Group], norms: Sequence[Tensor], largest: float) -> None:
    """Scale all gradients down so that their norm, together, is at most `largest`."""
    parameters = [parameter for group in groups for parameter in group.parameters.values()]
    nn.utils.clip_grads_with_norm_(parameters, largest, torch.stack(list(norms)).norm())
