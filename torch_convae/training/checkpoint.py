"""What a checkpoint holds, and what a run must agree with to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ConvaeError
from .best import Best
from .examples import Splits
from .freezing import parameter_count
from .guard import Watch
from .phase import Progress
from .run import Run
from .state import Moments, set_weights, whole_weights_of

Checkpoint = dict[str, Any]
FORM = 1  # of the nest below


@dataclass
class Position:
    """Where a run is, what the guard has seen, and what the optimizer knows between two segments."""

    progress: Progress = field(default_factory=Progress)
    watch: Watch = field(default_factory=Watch)
    moments: Moments = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    best: Best = field(default_factory=Best)


def capture(position: Position, models: nn.Module, run: Run, identity: Mapping[str, Any]) -> Checkpoint:
    """All that a run needs to go on bit for bit, as tensors and plain values."""
    return {
        "form": FORM,
        "identity": identity,
        "progress": asdict(position.progress),
        "watch": position.watch.to_dict(),
        "weights": whole_weights_of(models),
        "moments": position.moments,
        "scaler": position.scaler,
        "average": position.average,
        "best": position.best.to_dict(),
        "generators": run.random_state(),
    }


def go_back(checkpoint: Checkpoint, models: nn.Module, run: Run) -> Position:
    """Weights and random numbers as they were, and where that was."""
    if checkpoint.get("form") != FORM:
        raise ConvaeError("The checkpoint was written by another version. Go on with that, or start over with --fresh.")
    set_weights(models, checkpoint["weights"])
    run.set_random_state(checkpoint["generators"])
    known = {name: checkpoint[name] for name in ("moments", "scaler", "average")}
    progress, watch = Progress(**checkpoint["progress"]), Watch(**checkpoint["watch"])
    return Position(progress, watch, **known, best=Best(**checkpoint["best"]))


def identity_of(splits: Splits, models: nn.Module, weights: str | None) -> dict[str, Any]:
    """What a run is about: the shapes and contents of its data, the size of its networks, the file it began from."""
    all_splits = {"train": splits.train, **splits.measured}
    return {
        "shapes": {name: list(split.shape) for name, split in all_splits.items()},
        "contents": {name: split.fingerprint() for name, split in all_splits.items()},
        "parameters": parameter_count(models.parameters()),
        "weights": weights,
    }


def refuse_other(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """A run goes on only with what it began with; what is different is named."""
    changed = _changes({**before["shapes"], "parameters": before["parameters"]}, now["shapes"], now["parameters"])
    if not changed:
        changed = [
            f"{name} has the same shape, but other contents"
            for name, content in now["contents"].items()
            if _differ(before["contents"].get(name, ""), content)
        ]
    if changed:
        raise ConvaeError(
            f"{path} was begun on other data ({'; '.join(changed)}). Bring it back, or start over with --fresh."
        )
    if before["weights"] != now["weights"]:
        raise ConvaeError(
            f"{path} was begun when the file of --weights had other contents. Bring them back, or start over with "
            "--fresh."
        )


def _changes(before: Mapping[str, Any], shapes: Mapping[str, Any], parameters: int) -> list[str]:
    now = {**shapes, "parameters": parameters}
    return [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]


def _differ(before: str, now: str) -> bool:
    """Whether two fingerprints of the same kind differ; the same data may be held in memory or read from files."""
    return before.split()[:1] == now.split()[:1] and before != now
