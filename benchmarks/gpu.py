"""Training on a GPU: images a second, and the share of what the chip's matrix units give, beside plain PyTorch.

The share counts the multiplications and additions of forward and backward, as PyTorch counts them, against
the best that a large product of matrices reaches in the same precision in the same minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torch_convae.training import Run

from . import loops
from .compare import environment, summary, synchronise
from .work import Work, loss_of, of_network

LAYOUTS = ("contiguous", "channels-last")
ACCURACY, SCHEDULE = 0.91, ("--epochs", "1,3,3", "--batch-size", "128")
CLASSES = {"vgg16": 1000, "vgg16_unet": 6, "segnet": 12}
SIZES = {"vgg16": (224, 224), "vgg16_unet": (256, 256), "segnet": (352, 480)}
BATCHES = {"vgg16": 256, "vgg16_unet": 32, "segnet": 16}
ROUNDS = 3  # of all batches, a turn: with fewer steps, what a stage does at its end would weigh as in no real epoch


def run(
    device: torch.device, repeats: int, data: Path | None = None, only: str | None = None, tiny: bool = False
) -> dict[str, Any]:
    """Every network or `only` one, each layout, eager and compiled; with `data`, Fashion-MNIST's, the recipe too.

    `tiny` tries the code, on a processor if need be, and says nothing of speed.
    """
    peak = matrix_peak(device, 256 if tiny else 8192)
    return {
        "benchmark": "gpu",
        "what": "training, Adam, bfloat16 autocast" + (", tiny: no measure of speed" if tiny else ""),
        "matrix_peak_tflops": round(peak / 1e12, 2),
        **{name: measured(work, peak, repeats, tiny) for name, work in _works(device, only, tiny)},
        **({"fashion_mnist": end_to_end(device, data)} if data else {}),
        "environment": environment(),
    }


def matrix_peak(device: torch.device, size: int, repeats: int = 20) -> float:
    """Operations a second of a product of two square matrices in bfloat16, at best."""
    left, right = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        synchronise()
        begun = time.perf_counter()
        left @ right
        synchronise()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)


def operations(work: Work) -> int:
    """What forward and backward of one batch multiply and add."""
    model, part = work.model(), next(work.batches(1))
    with FlopCounterMode(display=False) as counter:
        loss_of(model(work.inputs()[part]), work.goals()[part]).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def measured(work: Work, peak: float, repeats: int, tiny: bool) -> dict[str, Any]:
    """Our loop and the plain one on the same network, and the plain one on that of segmentation_models_pytorch."""
    device, steps = work.images.device, work.steps * (1 if tiny else ROUNDS)
    other = _peer(work)
    needed = {one.name: operations(one) for one in (work, other) if one}
    found: dict[str, Any] = {}
    for compiled, layout in product((False,) if tiny else (False, True), LAYOUTS):
        run = Run(device, "bfloat16", layout, compiled)
        sides = {"torch-convae": (work, loops.ours(work, run)), "plain PyTorch": (work, loops.pure(work, run))}
        if other:
            sides["segmentation_models_pytorch"] = other, loops.pure(other, run)
        for _, loop in sides.values():
            loop(1)  # warms up and compiles
        trained = [{each: loop(steps).wall for each, (_, loop) in sides.items()} for _ in range(repeats)]
        for each, (its, _) in sides.items():
            wall = summary([one[each] for one in trained])
            rate = steps / wall["median"]
            found[f"{each}, {layout}, {'compiled' if compiled else 'eager'}"] = {
                "seconds": wall,
                "images_per_second": round(rate * work.batch, 1),
                "share_of_matrix_peak": round(rate * needed[its.name] / peak, 4),
            }
    flops = {name: round(count / work.batch / 1e9, 1) for name, count in needed.items()}
    return {"batch": work.batch, "image": tuple(work.images.shape[1:]), "gflop_per_image": flops, "loops": found}


def end_to_end(device: torch.device, data: Path) -> dict[str, Any]:
    """The default recipe on all of Fashion-MNIST, as a user runs it: seconds from start to end, and what it reaches."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--data-root", str(data), "--device", str(device), "--out", folder]
        command = [sys.executable, "-m", "torch_convae.train", "--data", "fashion-mnist", *SCHEDULE, *where]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        accuracy = json.loads((Path(folder) / "summary.json").read_text())["test_accuracy"]
    return {"seconds": round(seconds, 1), "test_accuracy": accuracy, "options": " ".join(SCHEDULE), "goal": ACCURACY}


def _works(device: torch.device, only: str | None, tiny: bool) -> Iterator[tuple[str, Work]]:
    for name, classes in CLASSES.items() if only is None else [(only, CLASSES[only])]:
        size = (64, 64) if tiny else SIZES[name]  # that of segmentation_models_pytorch halves five times
        yield name, of_network(name, classes, device, size, 1 if tiny else BATCHES[name], 2 if tiny else 10)


def _peer(work: Work) -> Work | None:
    """A U-Net on VGG16 as segmentation_models_pytorch builds it, where that is installed."""
    if work.name != "vgg16_unet":
        return None
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        return None
    network: nn.Module = smp.Unet("vgg16", encoder_weights=None, classes=CLASSES[work.name]).to(work.images.device)
    network.preprocessing = work.network.preprocessing
    return Work("smp", network, work.images, work.targets, work.batch)
