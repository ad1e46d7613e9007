"""Early stopping and the best epoch of a stage, by any figure that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import ConvaeError
from .phase import Phase

SMALLER = ("loss", "rmse")  # is better; of all else larger


@dataclass(frozen=True)
class Wanted:
    """Which figure says how good an epoch is, whether the best is kept, and how many epochs may pass without a better.

    None for `patience`: a stage runs to its end.
    """

    metric: str
    keep: bool = False
    patience: int | None = None


@dataclass(frozen=True)
class Best:
    """The best epoch of a stage so far: its number from 0, its figure, and where it is kept, its weights by name.

    `over` says that patience with the stage has run out.
    """

    epoch: int = -1
    value: float = 0.0
    over: bool = False
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"epoch": self.epoch, "value": self.value, "over": self.over, "weights": dict(self.weights)}


def judged(
    wanted: Wanted, best: Best, line: Mapping[str, Any], epoch: int, weights: Callable[[], Mapping[str, Tensor]]
) -> Best:
    """The best epoch once another is done, whose figures are `line`; a stage without the figure has none."""
    value = line.get(wanted.metric)
    if value is None:
        return best
    if best.epoch < 0 or (value < best.value if wanted.metric.endswith(SMALLER) else value > best.value):
        return Best(epoch, value, False, weights() if wanted.keep else {})
    return replace(best, over=wanted.patience is not None and epoch - best.epoch >= wanted.patience)


def figures_of(phase: Phase, watched: str | None) -> list[str]:
    """The names of what is measured after each epoch of a phase."""
    return ["train_loss", *[f"{watched}_{name}" for name in ("loss", *phase.task.figures) if watched]]


def asked_for(metric: str | None, patience: int | None, phases: Iterable[Phase], watched: str | None) -> Wanted | None:
    """What `--best` and `--patience` want; without the former the watched loss alone says when to stop.

    A figure that no stage has is refused with the list of those there are.
    """
    if metric is None:
        return None if patience is None else Wanted(f"{watched or 'train'}_loss", patience=patience)
    known = list(dict.fromkeys(name for phase in phases for name in figures_of(phase, watched)))
    if metric not in known:
        raise ConvaeError(f"Nothing measures {metric!r} after an epoch. --best takes one of {', '.join(known)}.")
    return Wanted(metric, keep=True, patience=patience)
