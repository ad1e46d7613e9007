"""A stage cut at its releases: within a segment, what trains and what is frozen stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from ..errors import ConvaeError
from .freezing import batch_norms, freeze_all_but, keeping_up, matching, train_mode
from .stages import Release, Stage


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters by name that were released together."""

    release: Release
    parameters: Mapping[str, nn.Parameter]

    @property
    def name(self) -> str:
        """Its patterns."""
        return ", ".join(self.release.train)


@dataclass(frozen=True, eq=False)
class Segment:
    """Epochs `first` up to `end` of a stage, with the groups that train in them."""

    first: int
    end: int
    groups: tuple[Group, ...]


def groups_of(stage: Stage, model: nn.Module) -> tuple[Group, ...]:
    """The parameters of each release. One that several match belongs to the last; a group without any is refused."""
    matched = [matching(model, release.train) for release in stage.releases]
    owner = {name: index for index, names in enumerate(matched) for name in names}
    groups = tuple(
        Group(release, {name: each for name, each in names.items() if owner[name] == index})
        for index, (release, names) in enumerate(zip(stage.releases, matched, strict=True))
    )
    for group in groups:
        if not group.parameters:
            raise ConvaeError(f"Stage {stage.name}: later releases take all that {group.name} matches. Leave it out.")
    return groups


def segments_of(stage: Stage, model: nn.Module) -> tuple[Segment, ...]:
    """The segments of a stage, in order; a release that comes after the last epoch is refused."""
    groups = groups_of(stage, model)
    starts = sorted({0, *(release.epoch for release in stage.release)})
    if starts[-1] >= max(stage.epochs, 1):
        raise ConvaeError(
            f"Stage {stage.name} releases more in epoch {starts[-1] + 1}, but its last is {stage.epochs}. "
            "Give it more --epochs."
        )
    return tuple(
        Segment(first, end, tuple(group for group in groups if group.release.epoch <= first))
        for first, end in zip(starts, [*starts[1:], stage.epochs], strict=True)
    )


def freeze_for(model: nn.Module, segment: Segment) -> None:
    """Release the segment's groups and freeze the rest."""
    freeze_all_but(model, [name for group in segment.groups for name in group.parameters])


def train_mode_for(model: nn.Module, stage: Stage, segment: Segment) -> None:
    """Training mode for what the segment trains, and batch statistics where its groups have them."""
    by_batches = {name for group in segment.groups if group.release.batch_statistics for name in group.parameters}
    layers = batch_norms(model)
    plain = {path for path, names in layers.items() if not names and stage.batch_statistics}
    train_mode(model, plain | {path for path, names in layers.items() if names & by_batches})


@contextmanager
def in_training(model: nn.Module, stage: Stage, segment: Segment, steps: int) -> Iterator[None]:
    """Frozen as the segment has it, and every layer in the mode it trains in, for a stage of so many steps."""
    freeze_for(model, segment)
    with keeping_up(model, steps):
        train_mode_for(model, stage, segment)
        yield
