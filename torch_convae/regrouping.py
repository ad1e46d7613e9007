"""A trained classifier for fewer, merged classes: what it was worth before, what it is worth after, calibrated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .data import VOID, DataSet, FileSplit, Split, part, regrouped
from .errors import ConvaeError
from .groups import Groups
from .training import Phase, Run, evaluate
from .training.calibration import Belief, belief, counted, divide_logits, temperature
from .weights import head_path

HELD = 0.1  # of train, where there is no val: what is trained on says nothing of how sure a network may be
MOST_MASKS = 64  # with which a temperature is found
LEAST = 30  # images, or pixels: of a few that are all right, one would make the network certain of everything
BATCH = 32


@dataclass(frozen=True)
class Regrouping:
    """The new data, the groups, and the images that calibrate."""

    data: DataSet
    groups: Groups
    held: Split | FileSplit
    where: str


def prepare(data: DataSet, groups: Groups, seed: int) -> Regrouping:
    """The data under its new classes; without a val, a tenth of train is held out to calibrate with."""
    if data.task == "sequences":
        raise ConvaeError(f"{data.name} has values, no classes. Leave --classes out.")
    new = regrouped(data, groups)
    if "val" in new.splits:
        return Regrouping(new, groups, new.splits["val"], "val")
    train = new.splits["train"]
    shuffled = list(range(len(train)))
    random.Random(f"{seed} calibration").shuffle(shuffled)
    count = max(1, round(HELD * len(train)))
    held, kept = sorted(shuffled[:count]), sorted(shuffled[count:])
    if not kept:
        raise ConvaeError(f"{data.name} has one image to train on, and calibration takes one. Give more.")
    splits = {**new.splits, "train": part(train, kept)}
    return Regrouping(replace(new, splits=splits), groups, part(train, held), "a tenth of train, held out")


def before(regrouping: Regrouping, old: nn.Module, phase: Phase, run: Run) -> dict[str, Any]:
    """Figures on test: of the old network, its probabilities summed over each group, and of the carried head."""
    names: Sequence[str] = old.classes  # type: ignore[assignment]
    places = [[names.index(each) for each in olds] for olds in regrouping.groups.values()]

    def summed(model: nn.Module, x: Tensor) -> Tensor:
        return torch.stack([model(x).float()[:, each].logsumexp(dim=1) for each in places], dim=1)

    test = regrouping.data.splits["test"].on(run.device)
    figures = {}
    for name, model, task in (
        ("summed_probabilities", old, replace(phase.task, output=summed)),
        ("carried_head", phase.model, phase.task),
    ):
        run.prepare(model)
        figures[name], _ = evaluate(Phase(phase.stage, model, task), test, run, BATCH)
    return figures


def calibrate(regrouping: Regrouping, phase: Phase, run: Run) -> dict[str, Any]:
    """Divide the network's logits by the temperature that suits the held images; what that does on test."""
    void = VOID if regrouping.data.task == "masks" else None
    held = _logits(regrouping.held, phase, run, void)
    few = sum(len(truth) for _, truth in held) < LEAST
    found = 1.0 if few else temperature(held)
    test = _logits(regrouping.data.splits["test"], phase, run, void)
    worth: dict[str, Belief] = {"before": belief(test), "after": belief(test, found)}
    divide_logits(phase.model.get_submodule(head_path(phase.model)), found)
    figures = {name: asdict(each) for name, each in worth.items()}
    where = regrouping.where + (", too few to divide the logits by" if few else "")
    return {"on": where, "temperature": round(found, 4), **figures}


def _logits(split: Split | FileSplit, phase: Phase, run: Run, void: int | None) -> list[tuple[Tensor, Tensor]]:
    count = len(split) if void is None else min(len(split), MOST_MASKS)
    batches = torch.split(torch.arange(count), BATCH)
    phase.model.eval()
    found = []
    with torch.inference_mode():
        for images, targets, _ in split.on(run.device).batches(batches):
            x = run.images(phase.model.preprocessing(images))  # type: ignore[operator]
            with run.autocast():
                logits = phase.model(x)
            found.append(counted(logits.cpu(), targets.cpu(), void))
    return found


def stage_figures(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The figures on test after each stage, beside those before."""
    return {
        f"after_{stage}": {
            name.removeprefix("test_"): value for name, value in figures.items() if name.startswith("test_")
        }
        for stage, figures in results.items()
    }
