"""The one loop: it runs any stage on any task, and goes on exactly where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .checkpoint import capture, data_sizes, refuse_other_data
from .evaluation import Measured, evaluate
from .examples import Batch, Splits
from .folder import Folder
from .freezing import freeze_all_but, frozen_hash, keep_up, parameter_count, train_mode
from .interrupt import Stop
from .optimisation import optimizer_for, set_rate
from .phase import Phase, Progress
from .reporting import bar, say
from .run import Run
from .stages import Stage
from .step import Ready, gradients
from .tasks import Objective

SECONDS_BETWEEN_LOOKS = 2.0  # reading the loss waits for the device, so the progress bar does it rarely


class Diverged(Exception):
    """The loss is no longer a number; what was saved before is good."""


@dataclass(frozen=True)
class Active:
    """A phase that runs: its stage, what a step minimises, and what moves the weights."""

    phase: Phase
    objective: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def stage(self) -> Stage:
        """The stage of the phase."""
        return self.phase.stage


@dataclass
class Trainer:
    """Runs phases one after the other and saves after each epoch, and when asked to stop."""

    run: Run
    splits: Splits
    folder: Folder
    models: nn.Module  # all that is trained, for the checkpoint
    stop: Stop
    # Called when a stage ends, with its networks as they are and the test split's statistics.
    finished: Callable[[Phase, Tensor | None], object] = lambda phase, statistics: None  # noqa: ARG005
    progress: Progress = field(default_factory=Progress)
    measured: dict[str, Measured] = field(default_factory=dict)  # since the last step, by split

    def train(self, phases: Sequence[Phase]) -> dict[str, dict[str, Any]]:
        """Every phase that is not done yet; the figures of each by name."""
        self._refuse_too_few()
        for phase in phases:
            self.run.prepare(phase.model)
        self.run.ranks.own_randomness()
        optimizer_state = self._restore()
        while self.progress.phase < len(phases):
            self._run_phase(phases[self.progress.phase], optimizer_state)
            optimizer_state = None
        return self.progress.results

    def _refuse_too_few(self) -> None:
        count = self.run.ranks.count
        for name, split in {"train": self.splits.train, **self.splits.measured}.items():
            if len(split) < count:
                raise ConvaeError(f"The split {name} holds {len(split)} images for {count} processes. Start fewer.")
        if self.splits.batch_size < count:
            raise ConvaeError(f"A --batch-size of {self.splits.batch_size} is too small for {count} processes.")

    def _run_phase(self, phase: Phase, optimizer_state: dict[str, Any] | None) -> None:
        stage, progress = phase.stage, self.progress
        self.measured.clear()
        released = freeze_all_but(phase.model, stage.train)
        keep_up(phase.model, stage.epochs * len(list(self.splits.order(progress.phase, 0))))
        train_mode(phase.model, stage.batch_statistics)
        optimizer = optimizer_for(stage, released)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        active = Active(phase, self.run.wrap(Objective(phase.model, phase.task)), optimizer)
        progress.frozen = progress.frozen or frozen_hash(phase.model)
        while progress.epoch < stage.epochs:
            self._run_epoch(active)
        train_mode(phase.model, stage.batch_statistics)  # measuring left it in evaluation mode, as if frozen
        if frozen_hash(phase.model) != progress.frozen:
            raise ConvaeError(f"Stage {stage.name} changed tensors that were frozen. Please report this.")
        progress.results[stage.name] = self._results(phase, released)
        self.run.ranks.once(self.finished, phase, self.measured["test"][1] if "test" in self.measured else None)
        progress.phase, progress.epoch, progress.frozen, progress.seconds = progress.phase + 1, 0, "", 0.0
        progress.epochs_before += stage.epochs
        self._save(optimizer=None)
        self.stop.raise_if_asked()

    def _run_epoch(self, active: Active) -> None:
        progress, stage = self.progress, active.stage
        order = list(self.splits.order(progress.phase, progress.epoch))
        started, first = time.perf_counter(), progress.step
        self.measured.clear()
        train_mode(active.phase.model, stage.batch_statistics)
        self._run_steps(active, order)
        progress.seconds += time.perf_counter() - started
        _finite(progress.total, active.phase, progress)
        if progress.step < len(order):
            self._save(active.optimizer)
            self.stop.raise_if_asked()
        figures = {"train_loss": progress.total / len(order)} | self._measure(active.phase, self.splits.watched)
        rate = sum(len(batch) for batch in order[first:]) / max(time.perf_counter() - started, 1e-9)
        progress.history.append({"stage": stage.name, "epoch": progress.epoch + 1, **figures})
        say(progress.history[-1], stage, rate)
        progress.epoch, progress.step, progress.total = progress.epoch + 1, 0, 0.0
        self._save(active.optimizer)
        self.stop.raise_if_asked()

    def _run_steps(self, active: Active, order: Sequence[Tensor]) -> None:
        """The steps of an epoch that are not done yet, until there are no more or a stop is asked for."""
        progress = self.progress
        total = torch.tensor(progress.total, dtype=torch.float64, device=self.run.device)
        with bar(active.stage, progress, order) as shown:
            looked = time.perf_counter()
            steps = [self.run.parts(batch) for batch in order[progress.step :]]
            examples = self.splits.train.batches([part for step in steps for part in step])
            for step in steps:
                set_rate(active.optimizer, active.stage, progress.epoch + progress.step / len(order))
                total += self._step(active, list(islice(examples, len(step))))
                progress.step += 1
                shown.update()
                if not shown.disable and time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS:
                    shown.set_postfix(loss=_finite(float(total) / progress.step, active.phase, progress))
                    looked = time.perf_counter()
                self.stop.signal = self.run.ranks.agree(self.stop.signal)
                if self.stop.signal is not None:
                    break
        progress.total = float(total)

    def _step(self, active: Active, parts: Sequence[Batch]) -> Tensor:
        loss = gradients(self.run, active.phase, active.objective, [self._augmented(part) for part in parts])
        active.optimizer.step()
        active.optimizer.zero_grad(set_to_none=True)
        return loss

    def _augmented(self, batch: Batch) -> Ready:
        images, targets, indices = batch
        if self.splits.augment is None:
            return images, targets
        return self.splits.augment(images, targets, indices, self.progress.epochs_before + self.progress.epoch)

    def _measure(self, phase: Phase, split: str | None) -> dict[str, float]:
        if split is None:
            return {}
        if split not in self.measured:
            self.measured[split] = evaluate(phase, self.splits.measured[split], self.run, self.splits.batch_size)
        figures, _ = self.measured[split]
        _finite(figures["loss"], phase, self.progress)  # the last step may have spoilt what the one before measured
        return {f"{split}_{name}": value for name, value in figures.items()}

    def _results(self, phase: Phase, released: list[nn.Parameter]) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for split in self.splits.measured:
            figures |= self._measure(phase, split)
        return {
            "epochs": phase.stage.epochs,
            "lr": phase.stage.lr,
            "trained": list(phase.stage.train),
            "trained_parameters": parameter_count(released),
            "frozen_sha256": self.progress.frozen,
            "seconds": round(self.progress.seconds, 1),
            **figures,
        }

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        sizes = data_sizes(self.splits, self.models)
        rng = self.run.random_state()
        checkpoint = capture(self.progress, self.models, optimizer, rng, sizes)
        self.run.ranks.once(self.folder.save, checkpoint, self.progress.history)

    def _restore(self) -> dict[str, Any] | None:
        """Go back to where the run was saved last, if it was; the optimizer's state there."""
        saved = self.run.ranks.once(self.folder.restore)
        if saved is None:
            return None
        refuse_other_data(self.folder.path, saved["sizes"], data_sizes(self.splits, self.models))
        self.progress = Progress(**saved["progress"])
        self.models.load_state_dict(saved["models"])
        self.run.set_random_state(saved["rng"])
        state: dict[str, Any] | None = saved["optimizer"]
        return state


def _finite(loss: float, phase: Phase, progress: Progress) -> float:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss of stage {phase.stage.name} is {loss} in epoch {progress.epoch + 1}. All up to the epoch before "
            f"is kept; start over with a smaller --lr than {phase.stage.lr:g} and --fresh."
        )
    return loss
