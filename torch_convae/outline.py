"""What a run is going to do, before it does any of it: kept in its folder, and printed by --dry-run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from .config import Config
from .data import DataSet, FileSplit, Split
from .recipes import Built
from .training import Memory, Phase, Run, Splits, estimate, freeze_all_but, parameter_count, segments_of, train_mode
from .words import number, size, table

Outline = dict[str, Any]


def outline(config: Config, run: Run, data: DataSet, built: Built, splits: Splits) -> Outline:
    """The data, the networks, what the recipe chose, and each stage with what trains and how many steps it takes."""
    return {
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "splits": {"train": list(splits.train.shape)}
            | {name: list(split.shape) for name, split in splits.measured.items()},
        },
        "model": built.name,
        "parameters": parameter_count(list(built.models.parameters())),
        "settings": {
            "data": data.name,
            "batch_size": splits.batch_size,
            "layout": run.layout,
            "epochs": ",".join(str(phase.stage.epochs) for phase in built.phases),
            "lr": ",".join(f"{phase.stage.lr:g}" for phase in built.phases),
            "out": f"runs/{config.recipe}",
        },
        "stages": [_stage(built.phases, splits, index) for index in range(len(built.phases))],
    }


def _stage(phases: Sequence[Phase], splits: Splits, index: int) -> Outline:
    phase, before = phases[index], phases[max(index - 1, 0)]
    return {
        "name": phase.stage.name,
        "epochs": phase.stage.epochs,
        "lr": phase.stage.lr,
        "trained": [pattern for release in phase.stage.releases for pattern in release.train],
        "trained_parameters": parameter_count(_trained(phase).values()),
        "releases": [asdict(release) for release in phase.stage.release],
        "warmup": phase.stage.warmup,
        "clip": phase.stage.clip,
        "plateau": phase.stage.plateau,
        "optimizer_state": "kept" if phase.stage.goes_on_from(before.stage) else "fresh",
        "parameters": parameter_count(list(phase.model.parameters())),
        "steps": len(list(splits.order(index, 0))),
    }


def _trained(phase: Phase) -> dict[str, nn.Parameter]:
    """All that trains at the end of a stage, by name."""
    groups = segments_of(phase.stage, phase.model)[-1].groups
    return {name: parameter for group in groups for name, parameter in group.parameters.items()}


def introduction(config: Config, run: Run, data: DataSet) -> str:
    """What is trained on what, in a line."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    named = "values" if data.task == "sequences" else "classes"
    return f"{config.recipe} on {data.name}: {counts}, {len(data.classes)} {named}; {run.device}, {run.precision}"


def rehearse(config: Config, run: Run, data: DataSet, built: Built, splits: Splits) -> None:
    """Print what a run would do: the plan of its weights, its stages, its memory."""
    print(introduction(config, run, data))
    print(f"\n{built.plan or 'Begins with random weights; no file is loaded.'}\n")
    held = sum(_held(split) for split in data.splits.values())
    print(described(outline(config, run, data, built, splits), memory_of(run, built, splits), held))
    print("\nA dry run: nothing is written.")


def _held(split: Split | FileSplit) -> int:
    """The bytes of a split that lie on the device; what is read from files does not."""
    return split.images.nbytes + split.targets.nbytes if isinstance(split, Split) else 0


def memory_of(run: Run, built: Built, splits: Splits) -> dict[str, Memory]:
    """What each stage is going to need on the device of each process, by a step on tensors without numbers."""
    first = next(iter(splits.order(0, 0)))
    largest = len(run.parts(first)[0])
    images, targets, _ = next(iter(splits.train.batches([torch.zeros(1, dtype=torch.int64)])))
    found = {}
    for phase in built.phases:
        run.prepare(phase.model)
        freeze_all_but(phase.model, _trained(phase))
        train_mode(phase.model, phase.stage.batch_statistics)
        repeated = (images.expand(largest, *images.shape[1:]), targets.expand(largest, *targets.shape[1:]))
        found[phase.stage.name] = estimate(run, phase, *repeated)
    return found


def described(planned: Outline, memory: Mapping[str, Memory], held: int) -> str:
    """The outline as a person reads it; `held` is the bytes of data that lie on the device."""
    rows = [("stage", "epochs", "steps each", "rate", "trains", "parameters", "of")]
    rows += [
        (
            stage["name"],
            str(stage["epochs"]),
            str(stage["steps"]),
            f"{stage['lr']:g}",
            " ".join(stage["trained"]),
            number(stage["trained_parameters"]),
            number(stage["parameters"]),
        )
        for stage in planned["stages"]
    ]
    needs = [("memory", *asdict(next(iter(memory.values()))), "data", "in all")]
    needs += [
        (name, *[size(value) for value in asdict(need).values()], size(held), size(need.total + held))
        for name, need in memory.items()
    ]
    return "\n".join([*table(rows), "", *table(needs)])
