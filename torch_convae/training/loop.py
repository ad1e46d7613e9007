"""The one loop: it runs any stage on any task, and goes on exactly where it stopped."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .active import Active
from .allocator import memory_kept
from .average import Average
from .best import Best, Wanted, judged
from .caching import DISK, NOWHERE, Caching, Work, decide, maker_for, on_features
from .checkpoint import Position
from .evaluation import Measured, evaluate
from .examples import Splits, refuse_too_few
from .folder import Folder
from .freezing import frozen_hash
from .guard import Diverged, Jump, Spike, Watch
from .interrupt import Interrupted, Stop
from .memory import Peak
from .optimisation import optimizer_for
from .phase import Phase, Progress
from .randomness import undisturbed
from .reporting import bar, proof_of, results_of, say, tell, why_over, write
from .run import Run
from .saving import Saver
from .segments import Segment, in_training, segments_of
from .stages import Stage
from .state import moments_of, set_moments, set_weights, whole_weights_of
from .tasks import Objective
from .unclear import refuse_unclear

SECONDS_BETWEEN_LOOKS = 2.0  # reading the loss waits for the device, so the progress bar does it rarely
STEPS_BETWEEN_GOOD = 512  # checkpoints that the guard may go back to, at the ends of epochs: fast steps want few
SLOWER = 0.1  # what the guard makes of a rate


@dataclass
class Trainer:
    """Runs phases one after the other, and saves so often that little is lost, whatever happens."""

    run: Run
    splits: Splits
    folder: Folder
    models: nn.Module  # all that is trained, for the checkpoint
    stop: Stop
    # Called by every process when a stage ends, with its networks as they are and the test split's statistics.
    finished: Callable[[Phase, Tensor | None], object] = lambda phase, statistics: None  # noqa: ARG005
    guard: str = "rollback"
    caching: Caching = field(default_factory=Caching)
    weights: str | None = None  # a hash of the file that the run began from
    wanted: Wanted | None = None
    ema: float = 0.0  # the decay of averaged weights; 0 for none
    # Called when an epoch ends, with the lines of the log.
    logged: Callable[[list[dict[str, Any]]], object] = lambda history: None  # noqa: ARG005
    position: Position = field(default_factory=Position)
    active: Active | None = None
    measured: dict[str, Measured] = field(default_factory=dict)  # since the last step, by split

    @property
    def progress(self) -> Progress:
        """Where the run is."""
        return self.position.progress

    def train(self, phases: Sequence[Phase]) -> dict[str, dict[str, Any]]:
        """Every phase that is not done yet; the figures of each by name."""
        refuse_unclear([phase.stage for phase in phases])
        refuse_too_few(self.splits, self.run.ranks.count)
        self.peak = Peak(self.run.device)
        self.saver = Saver(self.folder, self.models, self.splits, self.run, self.weights)
        for phase in phases:
            segments_of(phase.stage, phase.model)  # a pattern that is wrong is refused now, not hours later
            self.run.prepare(phase.model)
        self.run.ranks.own_randomness()
        saved = self.saver.restore()
        self.position = saved or self.position
        with self.stop.held(), memory_kept():
            try:
                if saved is None:
                    self._save(good=True)
                while self.progress.phase < len(phases):
                    self._guarded(phases, self._run_phase)
            except Interrupted:
                self._guarded(phases, lambda _: self._save())
                raise
        return self.progress.results

    def _guarded(self, phases: Sequence[Phase], work: Callable[[Sequence[Phase]], object]) -> None:
        phase = phases[min(self.progress.phase, len(phases) - 1)]  # the work may end it, and save only then
        try:
            work(phases)
        except Jump as jump:
            self._go_back(phase, jump.spike)

    def _run_phase(self, phases: Sequence[Phase]) -> None:
        phase = phases[self.progress.phase]
        self.peak.start()
        for segment in segments_of(phase.stage, phase.model):
            if self.progress.epoch < segment.end and not self.position.best.over:
                with in_training(phase.model, phase.stage, segment, phase.stage.epochs * self._steps()):
                    self._run_segment(phase, segment)
        self._to_best()
        self._finish(phase)
        self.position.best = Best()
        self.progress.next_phase()
        if self.progress.phase < len(phases) and phases[self.progress.phase].model is not phase.model:
            self.position.watch = Watch()  # another network: what was usual says nothing
        if self.progress.phase == len(phases) or not phases[self.progress.phase].stage.goes_on_from(phase.stage):
            self.position.moments = {}
        self._save(good=True)
        self._leave_if_asked()

    def _run_segment(self, phase: Phase, segment: Segment) -> None:
        begun = bool(self.progress.frozen)
        if not begun:
            self.progress.frozen = frozen_hash(phase.model)
            self.position.watch.other_groups()
        self._refuse_moved(phase)
        work = self._work(phase, segment)
        scaler, average = self.run.scaler(), Average(self.ema, _named(segment))
        optimizer = optimizer_for(phase.stage, [{"params": [*group.parameters.values()]} for group in segment.groups])
        if begun or phase.stage.keep_optimizer:
            set_moments(optimizer, self.models, self.position.moments)
        if begun and self.position.average:
            scaler.load_state_dict(self.position.scaler)
            average.restore(self.position.average)
        self.position.moments = {}
        objective = self.run.wrap(Objective(work.phase.model, phase.task))  # after the freeze
        watched = self.guard != "off"
        self.active = Active(phase, work, segment, objective, optimizer, self.run, scaler, average, watched)
        while self.progress.epoch < segment.end and not self.position.best.over:
            self._run_epoch(self.active)
        self.position.scaler, self.position.average = {}, {}
        self.position.moments = moments_of(optimizer, self.models)
        self.active = None

    def _steps(self) -> int:
        return len(list(self.splits.order(self.progress.phase, 0)))

    def _refuse_moved(self, phase: Phase) -> None:
        if frozen_hash(phase.model) != self.progress.frozen:
            raise ConvaeError(
                f"Stage {phase.stage.name} changed tensors that were frozen: their hash was "
                f"{self.progress.frozen[:12]}. Please report this."
            )

    def _work(self, phase: Phase, segment: Segment) -> Work:
        """What a segment trains, and on what; where that are kept features, they are computed now."""
        maker = maker_for(phase, self.splits, self.run, self.caching)
        with undisturbed(), self._free():
            if not self.progress.features:  # else it was decided before the run stopped, and stays so
                epochs = segment.end - segment.first
                decision = decide(phase, self.splits, maker, self.caching, epochs, self.folder.path)
                self.progress.features = [decision.where, decision.text]
            where, text = self.progress.features
            if text:
                write(f"{phase.stage.name}: {text}")
            if where == NOWHERE:
                return Work(phase, self.splits)
            return on_features(phase, self.splits, maker, self.folder.features if where == DISK else None)

    def _run_epoch(self, active: Active) -> None:
        progress = self.progress
        order = list(active.work.splits.order(progress.phase, progress.epoch))
        started, first = time.perf_counter(), progress.step
        self.measured.clear()
        active.train_mode()
        self._run_steps(active, order)
        progress.seconds += time.perf_counter() - started
        self._look()
        self._refuse_infinite(progress.total)
        line = {"stage": active.stage.name, "epoch": progress.epoch + 1, "train_loss": progress.total / len(order)}
        if self.splits.watched:
            with active.average.in_place():
                line |= self._measure(active.work, self.splits.watched)
        if self.wanted:
            self.position.best = judged(self.wanted, self.position.best, line, progress.epoch, self._averaged)
        say(line, active.stage, sum(map(len, order[first:])) / max(time.perf_counter() - started, 1e-9))
        progress.history.append(line | self._prove(active))
        self.run.ranks.once(self.logged, progress.history)
        progress.next_epoch()
        last = progress.epoch == active.segment.end or self.position.best.over
        if last:  # before it is saved: what goes on from there begins behind the segment
            active.average.settle()
        if progress.since_good >= STEPS_BETWEEN_GOOD or (last and progress.epoch < active.stage.epochs):
            self._save(good=True)
        elif self._due():
            self._save()
        else:
            self.run.ranks.once(self.folder.log, progress.history)
        self._leave_if_asked()

    def _run_steps(self, active: Active, order: Sequence[Tensor]) -> None:
        """The steps of an epoch that are not done yet; or those until a stop is asked for."""
        progress = self.progress
        total = torch.tensor(progress.total, dtype=torch.float64, device=self.run.device)
        with bar(active.stage, progress, order, self.run.ranks.silent) as shown:
            looked = time.perf_counter()
            steps = [self.run.parts(batch) for batch in order[progress.step :]]
            examples = active.work.splits.train.batches([part for parts in steps for part in parts])
            for parts in steps:
                row = active.step(list(islice(examples, len(parts))), progress, len(order))
                total += row[0]
                self._note(row)
                shown.update()
                if not shown.disable and time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS:
                    shown.set_postfix(loss=float(total) / progress.step)
                    looked = time.perf_counter()
                if (due := self._due()) or self.stop.signal is not None:
                    progress.total = float(total)
                    self.stop.raise_if_asked()
                if due:
                    self._save()
        progress.total = float(total)

    def _due(self) -> bool:
        """Whether to save now. All processes agree, on that and on whether a stop was asked for, in one exchange."""
        wish = self.run.ranks.agree((self.stop.signal or 0) * 2 + self.saver.due) or 0
        self.stop.signal = wish // 2 or None
        return bool(wish % 2)

    def _leave_if_asked(self) -> None:
        self.stop.signal = self.run.ranks.agree(self.stop.signal)
        self.stop.raise_if_asked()

    def _free(self) -> AbstractContextManager[None]:
        """Where nothing is at stake a stop is at once; but several processes have to agree on it first."""
        return self.stop.free() if self.run.ranks.count == 1 else nullcontext()

    def _note(self, row: Tensor) -> None:
        self.progress.step += 1
        self.progress.since_good += 1
        if self.guard != "off":
            self.position.watch.note(row)
            if self.position.watch.due:
                self._look()

    def _look(self) -> None:
        """Whether there was a spike since the last look; then the run goes back or stops, or only tells."""
        while (spike := self.position.watch.look()) is not None:
            if self.guard != "report" or not math.isfinite(spike.loss):
                raise Jump(spike)
            self.progress.spikes.append(self._event(spike, self.active.stage if self.active else None))
            tell(self.progress.spikes[-1], "goes on as if nothing had been")

    def _event(self, spike: Spike, stage: Stage | None) -> dict[str, Any]:
        groups = [group.name for group in self.active.segment.groups] if self.active else []
        epoch = min(self.progress.epoch + 1, stage.epochs) if stage else self.progress.epoch + 1
        named = {"stage": stage.name if stage else "", "epoch": epoch}
        return named | asdict(spike) | {"text": spike.describe(groups)}

    def _go_back(self, phase: Phase, spike: Spike) -> None:
        """Back to the last good checkpoint and on at a lower rate; once a stage, and only where the guard is to."""
        event = self._event(spike, phase.stage)
        before = self.progress.spikes
        again = any(each["stage"] == phase.stage.name for each in before)
        self.active = None
        position = None if again or self.guard != "rollback" else self.saver.restore_good()
        if position is None:
            raise Diverged(why_over(event, phase.stage, again))
        self.position = position
        self.progress.spikes = [*before, event]
        self.progress.slower *= SLOWER
        tell(event, f"goes on from epoch {self.progress.epoch + 1} at {self.progress.slower:g} times the rate")
        self.saver.save(self.position, good=True)

    def _save(self, good: bool = False) -> None:
        self._look()
        if self.active:
            self.position.moments = moments_of(self.active.optimizer, self.models)
            self.position.scaler = self.active.scaler.state_dict()
            self.position.average = self.active.average.state()
        self.saver.save(self.position, good)

    def _prove(self, active: Active) -> dict[str, str]:
        """The hash of what is frozen, for the first line of a segment and the last, once it is seen to be the same."""
        progress, segment, proof = self.progress, active.segment, {}
        if progress.epoch == segment.first:
            proof["frozen_sha256_start"] = progress.frozen
        if progress.epoch + 1 == segment.end or self.position.best.over:
            active.train_mode()  # measuring left all in evaluation mode, as if frozen
            self._refuse_moved(active.phase)
            proof["frozen_sha256_end"] = progress.frozen
            progress.next_segment(proof_of(segment, progress))
        return proof

    def _measure(self, work: Work, name: str) -> dict[str, float]:
        if name not in self.measured:
            with undisturbed(), self._free():
                self.measured[name] = evaluate(work.phase, work.splits.measured[name], self.run, work.splits.batch_size)
        figures, _ = self.measured[name]
        # The last step may have spoilt what the one before measured.
        self._refuse_infinite(figures["loss"], name)
        return {f"{name}_{figure}": value for figure, value in figures.items()}

    def _averaged(self) -> dict[str, Tensor]:
        """The weights that were measured."""
        assert self.active is not None
        with self.active.average.in_place():
            return {name: tensor.clone() for name, tensor in whole_weights_of(self.models).items()}

    def _to_best(self) -> None:
        """The weights of the stage's best epoch, where they are wanted."""
        if self.position.best.weights:
            set_weights(self.models, self.position.best.weights)
            self.measured.clear()

    def _refuse_infinite(self, loss: float, split: str = "") -> None:
        if not math.isfinite(loss):
            sound = all(bool(tensor.isfinite().all()) for tensor in whole_weights_of(self.models).values())
            raise Jump(Spike(self.position.watch.steps, loss, math.nan, math.nan, None, split if sound else ""))

    def _finish(self, phase: Phase) -> None:
        """The figures of a stage that is through, and its pictures."""
        shutil.rmtree(self.folder.features, ignore_errors=True)
        figures: dict[str, Any] = {}
        for name in self.splits.measured:
            figures |= self._measure(Work(phase, self.splits), name)
        # What was watched is what the log says: on features or not, the last bits may differ.
        best, last = self.position.best, self.progress.history[-1]
        spent = {"epochs_done": self.progress.epoch, "peak_memory": self.peak.read()}
        if best.weights:
            spent["best_epoch"] = best.epoch + 1
            last = self.progress.history[best.epoch - self.progress.epoch]
        figures |= {name: value for name, value in last.items() if name in figures}
        self.progress.results[phase.stage.name] = results_of(phase, self.progress) | spent | figures
        with undisturbed(), self._free():
            statistics = self.measured["test"][1] if "test" in self.measured else None
            self.finished(phase, statistics)


def _named(segment: Segment) -> dict[str, nn.Parameter]:
    """What a segment trains, by name."""
    return {name: parameter for group in segment.groups for name, parameter in group.parameters.items()}
