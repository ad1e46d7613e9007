"""Measuring a network on a split: every example once."""

from __future__ import annotations

import torch
from torch import Tensor

from .examples import Examples, in_order
from .phase import Phase
from .run import Run
from .tasks import Objective

Measured = tuple[dict[str, float], Tensor | None]  # figures, and the statistics behind them


def evaluate(phase: Phase, examples: Examples, run: Run, batch_size: int) -> Measured:
    """The mean loss and the task's figures over every example once, and the statistics behind the figures."""
    task, objective = phase.task, Objective(phase.model, phase.task)
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    weight = torch.zeros_like(total)
    statistics: Tensor | None = None
    phase.model.eval()
    run.ranks.spread(phase.model)
    shares = [run.to_measure(batch) for batch in in_order(examples, batch_size)]
    counted = [counts for share, counts in shares if len(share)]
    with torch.no_grad():  # and not in inference mode: shards that were gathered there could not train afterwards
        batches = examples.batches([share for share, _ in shares if len(share)])
        for (images, targets, _), is_counted in zip(batches, counted, strict=True):
            x = run.inputs(phase.model, images)
            counts = task.weight(targets) * is_counted
            with run.autocast():
                output = objective.output(x)
                total += task.loss(output, x, targets).double() * counts
            weight += counts
            if task.count and is_counted:
                batch = task.count(output, targets)
                statistics = batch if statistics is None else statistics + batch
        total, weight = run.ranks.sum(torch.stack([total, weight]))
        statistics = None if statistics is None else run.ranks.sum(statistics)
    figures = {"loss": float(total / torch.where(weight > 0, weight, 1))}  # where nothing counts, the loss is 0
    if statistics is not None:
        figures |= {name: figure(statistics) for name, figure in task.figures.items()}
    return figures, statistics
