"""What a run says on the way: a progress bar for those who watch, a line an epoch for all."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import Any

from tqdm import tqdm

from .phase import Progress
from .stages import Stage


def bar(stage: Stage, progress: Progress, batches: Sized) -> tqdm[Any]:
    """The bar of an epoch."""
    title = f"{stage.name} {progress.epoch + 1}/{stage.epochs}"
    # disable=None: no bar where nobody watches, as in a log file.
    return tqdm(total=len(batches), initial=progress.step, desc=title, unit="batch", leave=False, disable=None)


def say(line: dict[str, Any], stage: Stage, rate: float) -> None:
    """An epoch's figures in a line, and how many images it took a second."""
    figures = "  ".join(f"{name} {value:.4f}" for name, value in line.items() if isinstance(value, float))
    tqdm.write(f"{stage.name} {line['epoch']}/{stage.epochs}  {figures}  {rate:.0f} images/s")
    sys.stdout.flush()  # a log file shows each epoch as it ends
