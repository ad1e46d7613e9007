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
    """The loss over a whole split and the task's figures, every example once; and the statistics behind the figures."""
    task, objective = phase.task, Objective(phase.model, phase.task)
    sums: list[Tensor] = []
    statistics: list[Tensor] = []
    phase.model.eval()
    run.ranks.spread(phase.model)
    shares = [run.to_measure(batch) for batch in in_order(examples, batch_size)]
    with torch.no_grad():  # and not in inference mode: shards that were gathered there could not train afterwards
        batches = examples.batches([share for share, _ in shares])
        for (images, targets, _), (_, counts) in zip(batches, shares, strict=True):
            x = run.inputs(phase.model, images)
            with run.autocast():
                output = objective.output(x)
                sums.append(task.loss.sums(output, x, targets) * counts)
            if task.count:
                statistics.append(task.count(output, targets) * counts)
        figures = {"loss": float(task.loss.of(_total(run, sums)))}
        if not task.count:
            return figures, None
        whole = _total(run, statistics)
    return figures | {name: figure(whole) for name, figure in task.figures.items()}, whole


def _total(run: Run, each: list[Tensor]) -> Tensor:
    """Over all batches of all processes."""
    return run.ranks.sum(torch.stack(each).sum(dim=0))
