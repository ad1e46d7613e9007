"""The flags that change how stages run: release by release, warm-up, clipping, what the optimizer knows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from .config import Config, per_stage
from .errors import ConvaeError
from .training import Phase, Release, Stage, segments_of

BLOCKS = "blocks"
FACTOR = 1 / 2.6  # of one block's rate to that of the next: Howard and Ruder 2018
HOW = "Write blocks, or PATTERN@EPOCH or PATTERN@EPOCH:FACTOR, several with commas between them"


def staged(phases: Sequence[Phase], stages: Sequence[Stage], config: Config) -> tuple[Phase, ...]:
    """The phases as the flags want them; `stages` are all of the recipe, for which a flag may have a number each."""
    names = [stage.name for stage in stages]
    warmups = dict(zip(names, per_stage("warmup", config.warmup, [s.warmup for s in stages]), strict=True))
    clips = dict(zip(names, per_stage("clip", config.clip, [s.clip or 0 for s in stages]), strict=True))
    if any(steps != int(steps) for steps in warmups.values()):
        raise ConvaeError(f"--warmup {config.warmup!r} should hold whole numbers of steps.")
    changed = [
        replace(
            phase,
            stage=replace(
                phase.stage,
                warmup=int(warmups[phase.stage.name]),
                clip=clips[phase.stage.name] or None,
                keep_optimizer=config.optimizer_state == "kept"
                if config.optimizer_state
                else phase.stage.keep_optimizer,
            ),
        )
        for phase in phases
    ]
    if config.release is not None:
        changed[-1] = _released(changed, config.release)
    for phase in changed:
        segments_of(phase.stage, phase.model)  # what is wrong with a release is said before anything is written
    return tuple(changed)


def _released(phases: Sequence[Phase], text: str) -> Phase:
    """The last phase, which begins with what the one before trained, and releases more step by step."""
    last = phases[-1]
    earlier = [phase.stage.train for phase in phases[:-1] if phase.model is last.model]
    releases = _blocks(last) if text == BLOCKS else tuple(_release(part) for part in text.split(","))
    return replace(last, stage=replace(last.stage, train=(earlier or [last.stage.train])[-1], release=releases))


def _release(text: str) -> Release:
    found = re.fullmatch(r"\s*(\S+)@(\d+)(?::([^:]+))?\s*", text)
    try:
        pattern, epoch, factor = found.groups() if found else ("", "0", None)
        epoch, rate = int(epoch), float(factor or 1)
    except ValueError as error:
        raise ConvaeError(f"--release {text!r}: {factor!r} is not a number. {HOW}.") from error
    if epoch < 1 or not 0 < rate < math.inf:
        raise ConvaeError(f"--release {text!r} is not a release. {HOW}.")
    return Release((pattern,), epoch - 1, rate)


def _blocks(phase: Phase) -> tuple[Release, ...]:
    """The encoder's blocks, the last first, over the stage's epochs, each at a smaller rate than the one before."""
    blocks = list(reversed(blocks_of(phase.model)))
    if not blocks:
        raise ConvaeError("--release blocks: the network has no encoder. Name what to release: PATTERN@EPOCH.")
    return tuple(
        Release(
            tuple(f"{layer}.*" for layer in block), index * phase.stage.epochs // len(blocks), FACTOR ** (index + 1)
        )
        for index, block in enumerate(blocks)
    )


def blocks_of(model: nn.Module) -> list[list[str]]:
    """The layers with weights that compute a network's features, cut where the numbers of their blocks change.

    Layers whose names tell no block are cut into three, as equal as may be.
    """
    patterns = getattr(model, "ENCODING", ())
    layers = [
        path
        for path, layer in model.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
        and any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*") for pattern in patterns)
    ]
    numbers = [re.search(r"(?:block|conv_?)(\d+)_", path.rpartition(".")[2]) for path in layers]
    if all(numbers):
        marks = [found.group(1) for found in numbers if found]
    else:
        marks = [str(3 * index // len(layers)) for index in range(len(layers))]
    blocks: dict[str, list[str]] = {}
    for mark, layer in zip(marks, layers, strict=True):
        blocks.setdefault(mark, []).append(layer)
    return list(blocks.values())
