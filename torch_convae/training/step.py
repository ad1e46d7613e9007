"""The gradients of one step, whatever parts and processes its batch is cut into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .phase import Phase
from .run import Run

Ready = tuple[Tensor, Tensor]  # images as bytes, augmented, and their targets


def gradients(
    run: Run, phase: Phase, objective: nn.Module, parts: Sequence[Ready], scaler: torch.amp.GradScaler
) -> Tensor:
    """Leave the gradients of the batch's mean loss in the parameters; that loss.

    The batch is what all parts of all processes hold. Each part's loss is a mean over what counts in it, so
    it has a share in the whole as large as its share of what counts. The gradients are as large as `scaler` made them.
    """
    weights = [phase.task.weight(targets) for _, targets in parts]
    whole = run.ranks.sum(torch.stack(weights).sum())
    whole = torch.where(whole > 0, whole, 1)  # where nothing counts, the loss is 0
    total = torch.zeros((), device=run.device)
    for index, ((images, targets), weight) in enumerate(zip(parts, weights, strict=True)):
        x = run.inputs(phase.model, images)
        with run.exchanging(objective, last=index == len(parts) - 1):
            with run.autocast():
                loss = objective(x, targets) * (weight / whole).to(torch.float32)
            run.backward(loss, scaler)
        total += loss.detach()
    return run.ranks.sum(total)
