"""A segment that runs: what trains, on which data, moved by which optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .average import Average
from .caching import Work
from .examples import Batch
from .gradients import clip, gradient_norms
from .optimisation import set_rates
from .phase import Phase, Progress
from .run import Run
from .segments import Segment, train_mode_for
from .stages import Stage
from .step import Ready, gradients


@dataclass(frozen=True, eq=False)
class Active:
    """`work` is what a step computes, and on what: on kept features, the rest of the phase's network."""

    phase: Phase
    work: Work
    segment: Segment
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    run: Run
    scaler: torch.amp.GradScaler
    average: Average
    watched: bool = True  # by the guard, which wants the norms of the gradients

    @property
    def stage(self) -> Stage:
        """The stage of the phase."""
        return self.phase.stage

    def train_mode(self) -> None:
        """Every layer in the mode it trains in, whatever measuring has made of it."""
        train_mode_for(self.phase.model, self.stage, self.segment)

    def step(self, parts: Sequence[Batch], progress: Progress, steps: int) -> Tensor:
        """One step of an epoch of so many: its loss, then the norm of each group's gradient, on the device."""
        set_rates(self.optimizer, self.stage, self.segment, progress, steps)
        epoch = progress.epochs_before + progress.epoch
        ready = [self._augmented(part, epoch) for part in parts]
        loss = gradients(self.run, self.work.phase, self.objective, ready, self.scaler)
        self.scaler.unscale_(self.optimizer)
        norms = self._norms()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return torch.stack([loss, *norms])

    def _augmented(self, batch: Batch, epoch: int) -> Ready:
        images, targets, indices = batch
        augment = self.work.splits.augment
        return augment(images, targets, indices, epoch) if augment else (images, targets)

    def _norms(self) -> list[Tensor]:
        groups, largest = self.segment.groups, self.stage.clip
        if not self.watched and largest is None:
            return []
        norms = gradient_norms(groups, self.run.device)
        if self.scaler.is_enabled():
            # A step whose gradients overflow float16 is left out and the scale halved; that is no spike.
            norms = [torch.where(norm.isfinite(), norm, 0.0) for norm in norms]
        if largest is not None:
            clip(groups, norms, largest)
        return norms
