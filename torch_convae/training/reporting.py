"""What a run says on the way, and what it leaves of a stage: a bar for those who watch, a line an epoch for all."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sized
from typing import Any

from tqdm import tqdm

from .freezing import parameter_count
from .phase import Phase, Progress
from .segments import Segment, groups_of
from .stages import Stage


def bar(stage: Stage, progress: Progress, batches: Sized, silent: bool) -> tqdm[Any]:
    """The bar of an epoch: how far it is, how fast, how long it will take; the loss comes behind."""
    title = f"{stage.name} {progress.epoch + 1}/{stage.epochs}"
    # disable=None: no bar where nobody watches, as in a log file.
    disable = True if silent else None
    return tqdm(total=len(batches), initial=progress.step, desc=title, unit="batch", leave=False, disable=disable)


def say(line: Mapping[str, Any], stage: Stage, rate: float) -> None:
    """An epoch's figures in a line, and how many images it took a second."""
    figures = "  ".join(f"{name} {value:.4f}" for name, value in line.items() if isinstance(value, float))
    write(f"{stage.name} {line['epoch']}/{stage.epochs}  {figures}  {rate:.0f} images/s")


def tell(event: Mapping[str, Any], then: str) -> None:
    """What the guard saw, and what happens now."""
    write(f"{event['stage']}: in epoch {event['epoch']} the loss {event['text']}; the run {then}")


def write(line: str) -> None:
    """A line of the log; a log file shows each as it comes."""
    tqdm.write(line)
    sys.stdout.flush()


def why_over(event: Mapping[str, Any], stage: Stage, again: bool) -> str:
    """Why a run ends in the middle, and what to do."""
    back = ", again after the run went back" if again else ""
    if event["split"]:
        back += f". See that all numbers of {event['split']} are finite"
    return (
        f"The loss of stage {stage.name} {event['text']}, in epoch {event['epoch']}{back}. All up to the last good "
        f"checkpoint is kept; start over with a smaller --lr than {stage.lr:g} and --fresh."
    )


def proof_of(segment: Segment, progress: Progress) -> dict[str, Any]:
    """That what a segment froze is what it was, and where it had its features from."""
    return {
        "first_epoch": segment.first + 1,
        "last_epoch": segment.end,
        "trained": [pattern for group in segment.groups for pattern in group.release.train],
        "frozen_sha256_start": progress.frozen,
        "frozen_sha256_end": progress.frozen,
        "features": progress.features[0],
    }


def results_of(phase: Phase, progress: Progress) -> dict[str, Any]:
    """What a stage was, for the summary; its figures come on top."""
    stage, groups = phase.stage, groups_of(phase.stage, phase.model)
    return {
        "epochs": stage.epochs,
        "lr": stage.lr,
        "trained": [pattern for release in stage.releases for pattern in release.train],
        "trained_parameters": sum(parameter_count(group.parameters.values()) for group in groups),
        "groups": [
            {
                "train": list(group.release.train),
                "epoch": group.release.epoch + 1,
                "lr": stage.lr * group.release.rate,
                "batch_statistics": group.release.batch_statistics,
                "parameters": parameter_count(group.parameters.values()),
            }
            for group in groups
        ],
        "frozen_sha256": progress.proofs[0]["frozen_sha256_start"],
        "frozen": progress.proofs,
        "spikes": [spike for spike in progress.spikes if spike["stage"] == stage.name],
        "seconds": round(progress.seconds, 1),
    }
