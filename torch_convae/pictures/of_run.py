"""The pictures of a run: what its networks make of test images."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import DataSet, FileSplit, Split
from ..files import write_whole
from ..training import Phase, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8
SHOWN_MASKS = 4
SHOWN_VALUES = 256


def draw_curves(folder: Path) -> None:
    """The run's losses and figures over its epochs; without matplotlib, say so and draw nothing."""
    try:
        from . import plots
    except ImportError:
        print("No pictures: they need matplotlib (pip install 'torch-convae[plots]').", file=sys.stderr)
        return
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    _save(folder / "curves.png", plots.curves(history))


def draw_phase(folder: Path, phase: Phase, data: DataSet, run: Run, counts: Tensor | None) -> None:
    """What the network of a stage that just ended makes of test images, whose confusion matrix is `counts`."""
    if find_spec("matplotlib") is None:
        return
    from . import plots

    test = data.splits["test"]
    if counts is None:
        images, _ = _spread(test, SHOWN)
        images = images[:, 0] if data.task == "sequences" else images
        made = _output(phase, images, run).clamp(0, 1) * 255
        _save(folder / "reconstructions.png", plots.rows({"image": _shown(images), "reconstruction": _shown(made)}))
        return
    if data.task == "sequences":
        images, truth = _spread(test, SHOWN_VALUES)
        predicted = _output(phase, images, run).numpy()
        _save(folder / "values.png", plots.values(truth.cpu().numpy(), predicted, data.classes))
        return
    _save(folder / "confusion.png", plots.confusion(counts.cpu().numpy(), data.classes))
    if data.task == "masks":
        images, truth = _spread(test, SHOWN_MASKS)
        predicted = _output(phase, images, run).argmax(1).numpy()
        _save(folder / "masks.png", plots.masks(_shown(images), truth.numpy(), predicted, data.classes))


def _save(path: Path, figure: Figure) -> None:
    write_whole(path, partial(figure.savefig, dpi=100))


def _spread(split: Split | FileSplit, count: int) -> tuple[Tensor, Tensor]:
    """A few images and their targets, evenly from first to last."""
    return split.take(torch.linspace(0, len(split) - 1, min(count, len(split))).long())


def _output(phase: Phase, images: Tensor, run: Run) -> Tensor:
    phase.model.eval()
    with torch.inference_mode(), run.autocast():
        x = run.images(phase.model.preprocessing(images.to(run.device)))  # type: ignore[operator]
        output: Tensor = phase.model(x)
        return output.float().cpu()


def _shown(images: Tensor) -> NDArray[Any]:
    """Images (N, C, H, W) of 0..255 as matplotlib shows them: (N, H, W) or (N, H, W, 3) of 0..1."""
    array = np.asarray(images.float().permute(0, 2, 3, 1).numpy()) / 255
    return array[..., 0] if array.shape[-1] == 1 else array[..., :3]
