"""What a checkpoint holds, and what it must agree with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .examples import Splits
from .freezing import parameter_count
from .phase import Progress

Checkpoint = dict[str, Any]


def capture(
    progress: Progress,
    models: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    rng: list[dict[str, Tensor]],
    sizes: dict[str, Any],
) -> Checkpoint:
    """Where a run is, as tensors and plain values."""
    return {
        "progress": asdict(progress),
        "models": models.state_dict(),
        "optimizer": optimizer.state_dict() if optimizer else None,
        "rng": rng,
        "sizes": sizes,
    }


def data_sizes(splits: Splits, models: nn.Module) -> dict[str, Any]:
    """What the data decides: the images of each split, and with the classes the size of the network."""
    all_splits = {"train": splits.train, **splits.measured}
    sizes: dict[str, Any] = {name: list(split.shape) for name, split in all_splits.items()}
    return sizes | {"parameters": parameter_count(list(models.parameters()))}


def refuse_other_data(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """A run goes on only with what it began with."""
    if changed := [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]:
        what = f"{path} was begun on other data ({'; '.join(changed)})"
        raise ConvaeError(f"{what}. Bring it back, or start over with --fresh.")
