"""BatchNorm cannot train on one value a channel: what a part of a batch may come down to, in a small image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import ConvaeError
from .examples import Splits
from .memory import estimate
from .phase import Phase
from .run import Run
from .segments import freeze_for, segments_of, train_mode_for


def refuse_single_values(run: Run, splits: Splits, phases: Sequence[Phase]) -> None:
    """Refuse, before anything trains, stages that PyTorch would not compute: tried on one image without numbers."""
    if run.sync_batch_norm and run.ranks.count > 1:
        return
    batches = (batch for index, _ in enumerate(phases) for batch in splits.order(index, 0))
    if min(len(part) for batch in batches for part in run.parts(batch)) > 1:
        return
    images, targets, _ = next(iter(splits.train.batches([torch.zeros(1, dtype=torch.int64)])))
    for phase in phases:
        for segment in segments_of(phase.stage, phase.model):
            freeze_for(phase.model, segment)
            train_mode_for(phase.model, phase.stage, segment)
            try:
                estimate(run, phase, images, targets)
            except ValueError as error:
                size = " x ".join(map(str, images.shape[-2:]))
                raise ConvaeError(
                    f"Stage {phase.stage.name} computes some images one by one, and one of {size} is too little for "
                    f"BatchNorm ({error}). Give a larger --size, a larger --batch-size or a smaller --accumulate."
                ) from error
