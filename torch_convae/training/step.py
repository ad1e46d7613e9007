"""The gradients of one step, whatever parts and processes its batch is cut into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .batch_norm import untracked
from .phase import Phase
from .randomness import undisturbed
from .run import Run
from .tasks import Additive

Ready = tuple[Tensor, Tensor]  # images as bytes, augmented, and their targets


def gradients(
    run: Run, phase: Phase, objective: nn.Module, parts: Sequence[Ready], scaler: torch.amp.GradScaler
) -> Tensor:
    """Leave the gradients of the batch's loss in the parameters; that loss.

    The batch is what all parts of all processes hold, and its loss is one of the sums over all of it. How much that
    changes with each sum is the same for every part. The gradients are as large as `scaler` made them.
    """
    loss, found = phase.task.loss, []
    slope = None if len(parts) == 1 else _slope(loss, _ahead(run, phase, objective, parts))
    for index, part in enumerate(parts):
        with run.exchanging(objective, last=index == len(parts) - 1):
            sums = _sums(run, phase, objective, part)
            found.append(sums.detach())
            if slope is None:
                slope = _slope(loss, run.ranks.sum(sums.detach().clone()))
            run.backward(sums @ slope, scaler)
    return loss.of(run.ranks.sum(torch.stack(found).sum(dim=0)))


def _sums(run: Run, phase: Phase, objective: nn.Module, part: Ready) -> Tensor:
    images, targets = part
    x = run.inputs(phase.model, images)
    with run.autocast():
        sums: Tensor = objective(x, targets)
    return sums


def _slope(loss: Additive, sums: Tensor) -> Tensor:
    """How much the loss changes with each of the sums."""
    with torch.enable_grad():
        at = sums.detach().requires_grad_()
        return torch.autograd.grad(loss.of(at), at)[0]


def _ahead(run: Run, phase: Phase, objective: nn.Module, parts: Sequence[Ready]) -> Tensor:
    """The sums over all parts of all processes, as far as a slope needs them, before the first part's gradients.

    Where the targets do not tell, all parts are computed once more than otherwise, as they will be then: with the
    same Dropout, and running statistics move by no share of it.
    """
    known = [phase.task.loss.ahead(targets) for _, targets in parts]
    if any(each is None for each in known):
        with torch.no_grad(), undisturbed(), untracked(phase.model):
            known = [_sums(run, phase, run.unwrapped(objective), part) for part in parts]
    return run.ranks.sum(torch.stack([each for each in known if each is not None]).sum(dim=0))
