"""The one loop: it runs any stage on any task, and goes on exactly where it stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConvaeError
from .folder import Folder
from .interrupt import Stop
from .metrics import confusion
from .run import Run
from .stages import Stage, freeze_all_but, frozen_hash, keep_up, parameter_count, train_mode
from .tasks import Task

Examples = tuple[Tensor, Tensor]  # images uint8 (N, C, H, W) and their targets, on the run's device
Measured = tuple[dict[str, float], Tensor | None]  # figures, and the confusion matrix behind them
Order = Callable[[int, int], Iterable[Tensor]]  # (stage, epoch) -> batches of indices
SECONDS_BETWEEN_LOOKS = 2.0  # reading the loss waits for the device, so the progress bar does it rarely


class Diverged(Exception):
    """The loss is no longer a number; what was saved before is good."""


@dataclass(frozen=True)
class Phase:
    """A stage with the model it trains and what for."""

    stage: Stage
    model: nn.Module
    task: Task


@dataclass(frozen=True)
class Splits:
    """What a run trains on, and what it is measured on by name ("val", "test")."""

    train: Examples
    order: Order
    measured: dict[str, Examples]
    batch_size: int

    @property
    def watched(self) -> str | None:
        """The split that is measured after every epoch, if any; the test split only where there is no other."""
        return next((name for name in ("val", "test") if name in self.measured), None)


@dataclass
class Progress:
    """Where a run is: all that, with the weights and the optimizer, makes it go on bit for bit."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    total: float = 0.0
    seconds: float = 0.0
    frozen: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Trainer:
    """Runs phases one after the other and saves after each epoch, and when asked to stop."""

    run: Run
    splits: Splits
    folder: Folder
    models: nn.Module  # all that is trained, for the checkpoint
    stop: Stop
    # Called when a stage ends, with its networks as they are and the test split's confusion matrix.
    finished: Callable[[Phase, Tensor | None], object] = lambda phase, counts: None  # noqa: ARG005
    progress: Progress = field(default_factory=Progress)
    measured: dict[str, Measured] = field(default_factory=dict)  # since the last step, by split

    def train(self, phases: Sequence[Phase]) -> dict[str, dict[str, Any]]:
        """Every phase that is not done yet; the figures of each by name."""
        for phase in phases:
            self.run.prepare(phase.model)
        saved = self.folder.restore()
        optimizer_state = None
        if saved:
            self.progress = Progress(**saved["progress"])
            self._refuse_other_data(saved["sizes"])
            self.models.load_state_dict(saved["models"])
            optimizer_state = saved["optimizer"]
            torch.set_rng_state(saved["rng"])
        while self.progress.phase < len(phases):
            self._run_phase(phases[self.progress.phase], optimizer_state)
            optimizer_state = None
        return self.progress.results

    def _refuse_other_data(self, before: dict[str, Any]) -> None:
        sizes = self._sizes()
        if changed := [
            f"{name} {before.get(name)} -> {sizes[name]}" for name in sizes if before.get(name) != sizes[name]
        ]:
            what = f"{self.folder.path} was begun on other data ({'; '.join(changed)})"
            raise ConvaeError(f"{what}. Bring it back, or start over with --fresh.")

    def _sizes(self) -> dict[str, Any]:
        """What the data decides: the images of each split, and with the classes the size of the network."""
        splits = {"train": self.splits.train, **self.splits.measured}
        sizes: dict[str, Any] = {name: list(images.shape) for name, (images, _) in splits.items()}
        return sizes | {"parameters": parameter_count(list(self.models.parameters()))}

    def _run_phase(self, phase: Phase, optimizer_state: dict[str, Any] | None) -> None:
        stage, progress = phase.stage, self.progress
        self.measured.clear()
        released = freeze_all_but(phase.model, stage.train)
        keep_up(phase.model, stage.epochs * len(list(self.splits.order(progress.phase, 0))))
        train_mode(phase.model, stage.batch_statistics)
        optimizer = torch.optim.Adam(released, lr=stage.lr, eps=1e-7, fused=True)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        progress.frozen = progress.frozen or frozen_hash(phase.model)
        while progress.epoch < stage.epochs:
            self._run_epoch(phase, optimizer)
        train_mode(phase.model, stage.batch_statistics)  # measuring left it in evaluation mode, as if frozen
        if frozen_hash(phase.model) != progress.frozen:
            raise ConvaeError(f"Stage {stage.name} changed tensors that were frozen. Please report this.")
        progress.results[stage.name] = self._results(phase, released)
        self.finished(phase, self.measured["test"][1] if "test" in self.measured else None)
        progress.phase, progress.epoch, progress.frozen, progress.seconds = progress.phase + 1, 0, "", 0.0
        self._save(optimizer=None)
        self.stop.raise_if_asked()

    def _run_epoch(self, phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        progress, stage = self.progress, phase.stage
        # All indices of an epoch go to the device at once: moving them batch by batch would make each step wait.
        batches = [batch.to(self.run.device) for batch in self.splits.order(progress.phase, progress.epoch)]
        started, first = time.perf_counter(), progress.step
        total = torch.tensor(progress.total, dtype=torch.float64, device=self.run.device)
        self.measured.clear()
        train_mode(phase.model, stage.batch_statistics)
        with _bar(phase, progress, batches) as bar:
            looked = time.perf_counter()
            for batch in batches[first:]:
                done = progress.epoch + progress.step / len(batches)
                for group in optimizer.param_groups:
                    group["lr"] = stage.rate(done / stage.epochs)
                total += self._step(phase, optimizer, batch)
                progress.step += 1
                bar.update()
                if not bar.disable and time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS:
                    bar.set_postfix(loss=_finite(float(total) / progress.step, phase, progress))
                    looked = time.perf_counter()
                if self.stop.signal is not None:
                    break
        progress.total = float(total)
        progress.seconds += time.perf_counter() - started
        _finite(progress.total, phase, progress)
        if progress.step < len(batches):
            self._save(optimizer)
            self.stop.raise_if_asked()
        figures = {"train_loss": progress.total / len(batches)} | self._measure(phase, self.splits.watched)
        images = sum(len(batch) for batch in batches[first:])
        rate = images / max(time.perf_counter() - started, 1e-9)
        progress.history.append({"stage": stage.name, "epoch": progress.epoch + 1, **figures})
        _say(progress.history[-1], stage, rate)
        progress.epoch, progress.step, progress.total = progress.epoch + 1, 0, 0.0
        self._save(optimizer)
        self.stop.raise_if_asked()

    def _step(self, phase: Phase, optimizer: torch.optim.Optimizer, batch: Tensor) -> Tensor:
        images, targets = self.splits.train
        x = self.run.images(phase.model.preprocessing(images[batch]))  # type: ignore[operator]
        with self.run.autocast():
            loss = phase.task.loss(phase.model(x), x, targets[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _measure(self, phase: Phase, split: str | None) -> dict[str, float]:
        if split is None:
            return {}
        if split not in self.measured:
            self.measured[split] = evaluate(phase, self.splits.measured[split], self.run, self.splits.batch_size)
        figures, _ = self.measured[split]
        _finite(figures["loss"], phase, self.progress)  # the last step may have spoilt what the one before measured
        return {f"{split}_{name}": value for name, value in figures.items()}

    def _results(self, phase: Phase, released: list[nn.Parameter]) -> dict[str, Any]:
        progress = self.progress
        figures: dict[str, Any] = {}
        for split in self.splits.measured:
            figures |= self._measure(phase, split)
        return {
            "epochs": phase.stage.epochs,
            "lr": phase.stage.lr,
            "trained": list(phase.stage.train),
            "trained_parameters": parameter_count(released),
            "frozen_sha256": progress.frozen,
            "seconds": round(progress.seconds, 1),
            **figures,
        }

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        checkpoint = {
            "progress": asdict(self.progress),
            "models": self.models.state_dict(),
            "optimizer": optimizer.state_dict() if optimizer else None,
            "rng": torch.get_rng_state(),
            "sizes": self._sizes(),
        }
        self.folder.save(checkpoint, self.progress.history)


def evaluate(phase: Phase, examples: Examples, run: Run, batch_size: int) -> Measured:
    """The mean loss and the task's figures over every example once, and the confusion matrix behind them."""
    images, targets = examples
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    counts: Tensor | None = None
    phase.model.eval()
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            truth = targets[start : start + batch_size]
            x = run.images(phase.model.preprocessing(images[start : start + batch_size]))  # type: ignore[operator]
            with run.autocast():
                output = phase.model(x)
                total += phase.task.loss(output, x, truth) * len(x)
            if phase.task.figures:
                batch = confusion(output, truth, phase.task.void)
                counts = batch if counts is None else counts + batch
    figures = {"loss": float(total) / len(images)}
    if counts is not None:
        figures |= {name: figure(counts) for name, figure in phase.task.figures.items()}
    return figures, counts


def _bar(phase: Phase, progress: Progress, batches: Sequence[Tensor]) -> tqdm[Any]:
    title = f"{phase.stage.name} {progress.epoch + 1}/{phase.stage.epochs}"
    # disable=None: no bar where nobody watches, as in a log file.
    return tqdm(total=len(batches), initial=progress.step, desc=title, unit="batch", leave=False, disable=None)


def _finite(loss: float, phase: Phase, progress: Progress) -> float:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss of stage {phase.stage.name} is {loss} in epoch {progress.epoch + 1}. All up to the epoch before "
            f"is kept; start over with a smaller --lr than {phase.stage.lr:g} and --fresh."
        )
    return loss


def _say(line: dict[str, Any], stage: Stage, rate: float) -> None:
    figures = "  ".join(f"{name} {value:.4f}" for name, value in line.items() if isinstance(value, float))
    tqdm.write(f"{stage.name} {line['epoch']}/{stage.epochs}  {figures}  {rate:.0f} images/s")
    sys.stdout.flush()  # a log file shows each epoch as it ends
