"""An epoch of training by our loop, by those that users write, and by those of Lightning and Keras.

The same network, first weights, batches and optimizer; the losses are equal before anything is timed. What
is compared is the processor's time, which other programs on the machine add least to.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from torch_convae.training import Run

from . import loops
from .compare import environment, summary
from .overhead import overhead
from .peers import BACKENDS, Missing, keras_fit
from .work import Work, autoencoder, unet

# So far the losses may be apart, at the first step and at the second. That one's is of weights which each loop has
# moved by itself, and Adam's first step is as large for a gradient of rounding errors as for any other.
TOLERANCES, TOLERANCES_OF_BFLOAT16 = (1e-4, 5e-3), (5e-2, 5e-2)
LAYOUTS = ("contiguous", "channels-last")
BFLOAT16 = "torch-convae, bfloat16"


def run(repeats: int, python: str | None = None, tiny: bool = False) -> dict[str, Any]:
    """Times and ratios for DataCamp's autoencoder and a U-Net on VGG16, on the processor.

    `python` is an interpreter that has Keras with TensorFlow and JAX, if this one has not. `tiny` tries the code.
    """
    cpu = torch.device("cpu")
    works = (autoencoder(cpu, 2, 2, 8), unet(cpu, 1, 2, 16)) if tiny else (autoencoder(cpu), unet(cpu))
    backends = BACKENDS[:1] if tiny else BACKENDS
    return {
        "benchmark": "train_step",
        "what": "an epoch of training, Adam, float32; seconds of processor time",
        **{work.name: compared(work, repeats, python or sys.executable, backends) for work in works},
        "environment": environment(),
    }


def compared(work: Work, repeats: int, python: str, backends: tuple[str, ...]) -> dict[str, Any]:
    """One piece of work: every loop's losses, then its times, in turn."""
    with ExitStack() as stack:
        sides, skipped = _ours_and_users(work)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for backend in backends:
            found, reason = _keras(work, backend, stack, folder, python)
            sides |= found
            skipped |= reason
        losses = _equal_losses(sides)
        trained = [{name: side(work.steps) for name, side in sides.items()} for _ in range(repeats)]
    cpu = {name: summary([each[name].cpu for each in trained]) for name in sides}
    wall = {name: summary([each[name].wall for each in trained]) for name in sides}
    best = min(LAYOUTS, key=lambda layout: cpu[_named(layout)]["median"])
    mine = cpu[_named(best)]
    return {
        "what": f"{work.steps} steps of {work.batch} images of {tuple(work.images.shape[1:])}",
        "losses_of_the_first_steps": losses,
        "seconds": {"cpu": cpu, "wall": wall},
        "layout": best,
        "times_ours": {name: round(each["median"] / mine["median"], 3) for name, each in cpu.items()},
        "times_ours_at_best": {name: round(each["min"] / mine["min"], 3) for name, each in cpu.items()},
        "images_per_second": round(work.steps * work.batch / mine["median"], 1),
        "overhead_of_a_step": overhead(work, best, repeats),
        "skipped": skipped,
    }


def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices in bfloat16, and does not only imitate it."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def _named(layout: str) -> str:
    return f"torch-convae, {layout}"


def _ours_and_users(work: Work) -> tuple[dict[str, loops.Loop], dict[str, str]]:
    """The loops of this process by name, and the reason for each that is not there."""
    cpu, skipped = torch.device("cpu"), {}
    sides = {_named(layout): loops.ours(work, Run(cpu, layout=layout)) for layout in LAYOUTS}
    if has_bfloat16():
        sides[BFLOAT16] = loops.ours(work, Run(cpu, "bfloat16", layout="channels-last"))
    else:
        skipped[BFLOAT16] = "this processor does not compute in bfloat16"
    sides["a tutorial's loop"] = loops.tutorial(work)
    try:
        sides["Lightning"] = loops.lightning(work)
    except ImportError:
        skipped["Lightning"] = "not installed: pip install lightning"
    return sides, skipped


def _keras(
    work: Work, backend: str, stack: ExitStack, folder: Path, python: str
) -> tuple[dict[str, loops.Loop], dict[str, str]]:
    name = f"Keras, {backend}"
    try:
        return {name: stack.enter_context(keras_fit(work, backend, folder, python)).train}, {}
    except Missing as reason:
        return {}, {name: str(reason)}


def _equal_losses(sides: Mapping[str, loops.Loop]) -> dict[str, tuple[float, float]]:
    """Of the first two steps of every loop, both on the first batch; different ones raise. This warms up, too."""
    losses: dict[str, tuple[float, float]] = {}
    for name, side in sides.items():
        first = side(1)
        losses[name] = (first.loss, side(1).loss) if first.before is None else (first.before, first.loss)
        allowed = TOLERANCES_OF_BFLOAT16 if name == BFLOAT16 else TOLERANCES
        for loss, expected, tolerance in zip(losses[name], losses[_named(LAYOUTS[0])], allowed, strict=True):
            if not abs(loss - expected) <= tolerance * abs(expected):
                raise AssertionError(f"{name} has the loss {loss}, not {expected}: it does not compute the same.")
    return losses
