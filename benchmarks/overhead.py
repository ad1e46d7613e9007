"""What a step of our loop takes beyond forward, backward and the optimizer's step.

Two ways to see it: within the step itself, by a clock around those three; and in pairs with a bare loop's step, which
also has what those three cost more because of all the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from torch_convae.data import Split
from torch_convae.training import Run
from torch_convae.training.examples import Batch

from . import loops
from .compare import summary
from .work import Work

FEWEST_STEPS = 3  # which are two pairs
QUARTERS = ("lower", "median", "upper")


@dataclass
class Clock:
    """Seconds of the processor while it was running."""

    seconds: float = 0.0

    def start(self) -> None:
        """From now on."""
        self.seconds -= time.process_time()

    def stop(self) -> None:
        """Up to now."""
        self.seconds += time.process_time()

    def read(self) -> float:
        """The seconds, which begin anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(frozen=True)
class Clocked(Run):
    """A run with a clock that runs in forward, the loss included, and in backward."""

    clock: Clock = field(default_factory=Clock)

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Forward and the loss, by the clock."""
        objective.register_forward_pre_hook(lambda *_: self.clock.start())
        objective.register_forward_hook(lambda *_: self.clock.stop())
        return super().wrap(objective)

    def backward(self, loss: Tensor, scaler: torch.amp.GradScaler) -> None:
        """Backward, by the clock."""
        self.clock.start()
        super().backward(loss, scaler)
        self.clock.stop()


@contextmanager
def optimizers_by(clock: Clock) -> Iterator[None]:
    """Within, the clock runs in every optimizer's step."""
    hooks = (
        register_optimizer_step_pre_hook(lambda *_: clock.start()),
        register_optimizer_step_post_hook(lambda *_: clock.stop()),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Step:
    """Seconds of one step of ours, of its forward, backward and optimizer, and of the bare loop's."""

    ours: float
    pure: float
    bare: float


@dataclass(frozen=True, eq=False)
class Paired(Split):
    """Examples that, between one step and the next, have another take the same step; seconds of both, in pairs.

    A step is over when the next batch is asked for. So close together, both meet the same moods of the machine.
    """

    other: Callable[[int], object] = lambda step: None  # noqa: ARG005
    clock: Clock = field(default_factory=Clock)
    steps: list[Step] = field(default_factory=list)

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """Those of the split."""
        begun = time.process_time()
        for step, batch in enumerate(super().batches(order)):
            if step:
                ours, pure, begun = time.process_time() - begun, self.clock.read(), time.process_time()
                self.other(step - 1)
                self.steps.append(Step(ours, pure, time.process_time() - begun))
            self.clock.read()
            begun = time.process_time()
            yield batch


def overhead(work: Work, layout: str, repeats: int) -> dict[str, Any]:
    """Seconds of steps, and the share by which one of ours is longer, seen both ways; quarters of all steps."""
    run = Clocked(torch.device("cpu"), layout=layout)
    paired = Paired(work.images, work.targets, other=loops.bare_step(work, run), clock=run.clock)
    with optimizers_by(run.clock):
        loops.ours(work, run, paired)(max(repeats * work.steps, FEWEST_STEPS))
    steps = paired.steps
    return {
        "steps": len(steps),
        "seconds": {
            "ours": summary([step.ours for step in steps]),
            "its forward, backward, optimizer": summary([step.pure for step in steps]),
            "bare": summary([step.bare for step in steps]),
        },
        "share_beyond_them": _quarters([step.ours / step.pure - 1 for step in steps]),
        "share_beyond_bare": _quarters([step.ours / step.bare - 1 for step in steps]),
    }


def _quarters(shares: Sequence[float]) -> dict[str, float]:
    return {quarter: round(share, 4) for quarter, share in zip(QUARTERS, quantiles(shares), strict=True)}
