"""Whether the features of a stage are kept, and where; with the reason, in words."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .examples import Examples, Splits
from .features import Maker, Rest
from .memory import estimate
from .nests import leaves_of
from .phase import Phase
from .run import Run

MEMORY, DISK, NOWHERE = "memory", "disk", "nowhere"
AUTO, OFF = "auto", "off"
MEBIBYTE, LARGEST = 2**20, 2**31
SAME = 1e-3  # relative and absolute, for features that are computed again: on a device the last bits may differ


@dataclass(frozen=True)
class Caching:
    """Features are kept: "auto", "off", or so many augmented views of each image; up to `budget` bytes of memory.

    Without a budget they take no more than training the whole network would, since a frozen encoder is to save
    memory, too; and no more than 2 GiB.
    """

    mode: str = AUTO
    budget: int | None = None

    @property
    def views(self) -> int:
        """How many augmented views of each image are kept; 0 where none are asked for."""
        return int(self.mode) if self.mode.isdecimal() else 0


@dataclass(frozen=True)
class Decision:
    """Where features are kept, and what to say of it; nothing where there is no frozen encoder to speak of."""

    where: str
    text: str = ""


def decide(phase: Phase, splits: Splits, maker: Maker, caching: Caching, epochs: int, folder: Path) -> Decision:
    """Whether so many epochs of a phase, frozen as it is to be, train on features that are kept."""
    if not encoder_is_still(phase.model) or epochs < 2:
        return Decision(NOWHERE)
    reasons = {
        "--cache off": caching.mode == OFF,
        "several processes share no memory": maker.run.ranks.count > 1,
        "the loss looks at the images": phase.task.needs_images,
        "the task runs the network in its own way": phase.task.output is not None,
        "images are augmented at random (--cache 4 keeps four views of each)": splits.augment and not caching.views,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), "") or unsteady(phase.model, maker, splits)
    if reason:
        return Decision(NOWHERE, f"features are computed anew in every epoch: {reason}")
    size = maker.row_bytes(splits.train) * len(splits.train)
    size += sum(replace(maker, views=1).row_bytes(split) * len(split) for split in _watched(splits).values())
    budget = caching.budget if caching.budget is not None else min(LARGEST, _training_all(phase, splits, maker.run))
    if size > budget and 2 * size > shutil.disk_usage(folder).free:
        what = f"they would fill the disk ({size / MEBIBYTE:.0f} MiB)"
        return Decision(NOWHERE, f"features are computed anew in every epoch: {what}")
    views = f", {maker.views} views of each image," if splits.augment else ""
    where = MEMORY if size <= budget else DISK
    return Decision(where, f"features are computed once{views} and kept {_IN[where]} ({size / MEBIBYTE:.1f} MiB)")


def _training_all(phase: Phase, splits: Splits, run: Run) -> int:
    """What gradients, the optimizer and activations would take if all of the network trained."""
    images, targets, _ = next(iter(splits.train.batches([torch.tensor([0])])))
    count = min(splits.batch_size, len(splits.train))
    batch = [each.expand(count, *each.shape[1:]) for each in (images, targets)]
    need = estimate(run, phase, batch[0], batch[1], everything=True)
    return need.total - need.parameters


_IN = {MEMORY: "in memory", DISK: "on disk"}


def _encoding(model: nn.Module) -> list[nn.Module]:
    patterns: Iterable[str] = getattr(model, "ENCODING", ())
    return [part for path, part in model.named_modules() if any(fnmatchcase(path, each) for each in patterns)]


def encoder_is_still(model: nn.Module) -> bool:
    """Whether all parts that compute features are frozen, and in evaluation mode."""
    parts = _encoding(model)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    moving = any(parameter.requires_grad for parameter in parameters)
    return bool(parameters) and not moving and not any(layer.training for part in parts for layer in part.modules())


def unsteady(model: nn.Module, maker: Maker, splits: Splits) -> str:
    """Why what a frozen encoder gives for an image is not the same every time; nothing where it is."""
    layers = [layer for part in _encoding(model) for layer in part.modules()]
    if any(isinstance(layer, _BatchNorm) and layer.running_mean is None for layer in layers):
        return "a BatchNorm that keeps no statistics looks at the whole batch"
    once, again = (leaves_of(maker.first(splits.train)[0]) for _ in range(2))
    if not all(torch.allclose(one, other, rtol=SAME, atol=SAME) for one, other in zip(once, again, strict=True)):
        return "the network draws random numbers while it computes them"
    return ""


@dataclass(frozen=True, eq=False)
class Work:
    """What a segment trains, and on what."""

    phase: Phase
    splits: Splits


def on_features(phase: Phase, splits: Splits, maker: Maker, folder: Path | None) -> Work:
    """The rest of the network on features that are computed now, or were before."""
    count = len(splits.train)
    train = maker.keep(splits.train, folder and folder / "train")
    plain = replace(maker, views=1, augment=None)
    watched = {name: plain.keep(split, folder and folder / name) for name, split in _watched(splits).items()}

    def order(stage: int, epoch: int) -> list[Tensor]:
        return [indices + (epoch % maker.views) * count for indices in splits.order(stage, epoch)]

    kept = Splits(train, order, watched, splits.batch_size)
    return Work(replace(phase, model=Rest(phase.model)), kept)


def _watched(splits: Splits) -> dict[str, Examples]:
    """What is measured after every epoch; what is measured once at the end gains nothing."""
    return {name: split for name, split in splits.measured.items() if name == splits.watched}


def maker_for(phase: Phase, splits: Splits, run: Run, caching: Caching) -> Maker:
    """What computes the features of a phase."""
    views = max(caching.views, 1) if splits.augment else 1
    return Maker(phase.model, run, splits.batch_size, views, splits.augment)
