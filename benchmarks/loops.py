"""Loops that train the same: ours, a tutorial's, one tuned by hand, and Lightning's.

Each is made for a piece of work and then called with a number of steps; it says how long they took, and the mean of
their losses. Weights go on from call to call.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from torch_convae.data import Split
from torch_convae.training import Folder, Phase, Run, Splits, Stage, Trainer, graceful, saving

from .compare import synchronise
from .work import EPSILON, LR, Work, loss_of

Loop = Callable[[int], "Trained"]


@dataclass(frozen=True)
class Trained:
    """Seconds, the processor's and the wall clock's, and the mean loss; for ours also that of a step before."""

    cpu: float
    wall: float
    loss: float
    before: float | None = None


class Watch:
    """Running from now on, or from when it is started again."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """From now on."""
        synchronise()
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def read(self, loss: float, before: float | None = None) -> Trained:
        """What has gone by."""
        synchronise()
        return Trained(time.process_time() - self.cpu, time.perf_counter() - self.wall, loss, before)


class Unsaved(Folder):
    """A run's folder that keeps nothing: the other loops keep nothing either."""

    def save(self, *_: object, **__: object) -> None:
        """Keep nothing."""

    def log(self, *_: object) -> None:
        """Keep nothing."""

    def restore(self) -> None:
        """There is nothing to go on from."""


def ours(work: Work, run: Run, examples: Split | None = None) -> Loop:
    """`Trainer`, as `torch_convae.train` runs it, but for the checkpoint; a step before, and then those asked for."""
    model = work.model()
    examples = examples or Split(work.images, work.targets)
    phase = Phase(Stage("epoch", 2, LR), model, work.task)

    def epoch(steps: int) -> Trained:
        watch = Watch()

        def order(_: int, epoch: int) -> Iterable[Tensor]:
            if epoch == 1:
                watch.start()  # the optimizer has its memory by now, as in the other loops
            parts = [torch.arange(part.start, part.stop) for part in work.batches(work.steps)]
            return islice(cycle(parts), steps if epoch else 1)

        with graceful() as stop, patch.object(saving, "SECONDS_BETWEEN", math.inf):
            trainer = Trainer(run, Splits(examples, order, {}, work.batch), Unsaved(Path()), model, stop)
            trainer.train([phase])
        before, last = (float(line["train_loss"]) for line in trainer.progress.history)
        return watch.read(last, before)

    return epoch


def tutorial(work: Work) -> Loop:
    """The loop of a tutorial: a DataLoader of float tensors, `loss.item()` at every step."""
    model, loader = work.model(), _loader(work)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, eps=EPSILON)

    def epoch(steps: int) -> Trained:
        watch, total = Watch(), 0.0
        for _, (x, y) in zip(range(steps), loader, strict=False):
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()
        return watch.read(total / steps)

    return epoch


def pure(work: Work, run: Run) -> Loop:
    """Forward, backward and step on batches that are ready, in the run's layout and precision; nothing else."""
    step = bare_step(work, run)

    def epoch(steps: int) -> Trained:
        watch, total = Watch(), torch.zeros((), device=work.images.device)
        for index in range(steps):
            total += step(index)
        return watch.read(float(total) / steps)

    return epoch


def bare_step(work: Work, run: Run) -> Callable[[int], Tensor]:
    """One step of `pure`, on the batch of that number, counted round and round; its loss."""
    model = work.model()
    run.prepare(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, eps=EPSILON, fused=True)
    inputs, goals = work.inputs(), work.goals()
    ready = [(run.images(inputs[part]), goals[part].contiguous()) for part in work.batches(work.steps)]
    if work.targets.dim() == 4:
        ready = [(x, x) for x, _ in ready]

    def step(index: int) -> Tensor:
        x, y = ready[index % len(ready)]
        with run.autocast():
            loss = loss_of(model(x).float(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def lightning(work: Work) -> Loop:
    """Lightning's Trainer with everything switched off that keeps or shows something."""
    import lightning

    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    losses: list[Tensor] = []

    class Module(lightning.LightningModule):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = work.model()
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, eps=EPSILON)

        def training_step(self, batch: Any, _: int) -> Tensor:
            loss = loss_of(self.model(batch[0]), batch[1])
            losses.append(loss.detach())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    module, loader = Module(), _loader(work)

    def epoch(steps: int) -> Trained:
        watch = Watch()
        losses.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                max_epochs=1,
                limit_train_batches=steps,
                accelerator="auto" if work.images.is_cuda else "cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, loader)
        return watch.read(float(torch.stack(losses).mean()))

    return epoch


def _loader(work: Work) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(work.inputs(), work.goals()), batch_size=work.batch)
