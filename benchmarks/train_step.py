"""An epoch of training: our loop against the plain loop that a user would write.

The same model, the same batches, the same optimizer settings; the losses are equal before anything is
timed. The plain loop is the tutorial's: a DataLoader of float tensors, `loss.item()` at every step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from torch_convae.data import Split
from torch_convae.models import create
from torch_convae.training import (
    Phase,
    Run,
    Splits,
    Stage,
    Trainer,
    classification,
    device,
    graceful,
    locked,
    reconstruction,
)

from .compare import environment, ratios, timed

IMAGES = 640
BATCH = 64


def run(repeats: int, name: str = "auto") -> dict[str, Any]:
    """Times and ratios for the conv autoencoder and its classifier, 28 x 28, batch 64."""
    where = device(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=generator).to(where)
    classes = torch.randint(0, 10, (IMAGES,), generator=generator).to(where)
    results = {
        "autoencoder": _compare("convae", {}, images, images, repeats, where),
        "classifier": _compare("convae-classifier", {"classes": 10}, images, classes, repeats, where),
    }
    return {
        "benchmark": "train_step",
        "what": f"one epoch of {IMAGES} images, 28 x 28, batch {BATCH}, Adam, float32",
        **results,
        "environment": environment(),
    }


def _compare(
    name: str, options: dict[str, int], images: Tensor, targets: Tensor, repeats: int, where: torch.device
) -> dict[str, Any]:
    torch.manual_seed(0)
    model = create(name, **options).to(where)
    mse = name == "convae"
    losses = {}
    # The second step's loss is that of weights which each loop has moved by itself; Adam's first step is as large
    # for a gradient of rounding errors as for any other, so the two are a little apart from there on.
    for steps, tolerance in ((1, 1e-5), (2, 2e-3)):
        few = images[: steps * BATCH], targets[: steps * BATCH]
        losses[steps] = {
            "ours": _ours(deepcopy(model), *few, mse, where)(),
            "plain": _plain(deepcopy(model), *few, mse)(),
        }
        pair = (torch.tensor(loss) for loss in losses[steps].values())
        torch.testing.assert_close(*pair, rtol=tolerance, atol=0)
    calls = {
        "torch-convae loop": _ours(deepcopy(model), images, targets, mse, where),
        "plain loop": _plain(deepcopy(model), images, targets, mse),
        "plain loop, channels-last, tensors indexed": _tuned(deepcopy(model), images, targets, mse),
    }
    times = timed(calls, repeats)
    best = times["torch-convae loop"]["median"]
    return {
        "mean_loss_by_steps": losses,
        "seconds": times,
        "images_per_second": round(IMAGES / best),
        "times_ours": ratios(times, "torch-convae loop"),
    }


def _ours(model: nn.Module, images: Tensor, targets: Tensor, mse: bool, where: torch.device) -> Callable[[], float]:
    """One epoch through `Trainer`, checkpoint and log included, as `torch_convae.train` runs it."""

    def order(_: int, __: int) -> Iterable[Tensor]:
        return [torch.arange(start, start + BATCH) for start in range(0, len(images), BATCH)]

    run = Run(where, layout="channels-last")
    phase = Phase(Stage("epoch", 1, 1e-3), model, reconstruction() if mse else classification())
    splits = Splits(Split(images, targets), order, {}, BATCH)

    def epoch() -> float:
        with tempfile.TemporaryDirectory() as path, locked(Path(path)) as folder, graceful() as stop:
            trainer = Trainer(run, splits, folder, model, stop)
            trainer.train([phase])
            return float(trainer.progress.history[0]["train_loss"])

    return epoch


def _plain(model: nn.Module, images: Tensor, targets: Tensor, mse: bool) -> Callable[[], float]:
    """The loop of a tutorial."""
    floats = images.float() / 255
    loader = DataLoader(TensorDataset(floats, floats if mse else targets), batch_size=BATCH)

    def epoch() -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            output = model(x)
            loss = F.mse_loss(output, y) if mse else F.cross_entropy(output, y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()
        return total / len(loader)

    return epoch


def _tuned(model: nn.Module, images: Tensor, targets: Tensor, mse: bool) -> Callable[[], float]:
    """The same by someone who knows PyTorch well: no DataLoader, channels-last, fused optimizer, no item()."""
    model = model.to(memory_format=torch.channels_last)
    floats = images.float() / 255

    def epoch() -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
        model.train()
        total = torch.zeros((), device=images.device)
        for start in range(0, len(images), BATCH):
            x = floats[start : start + BATCH].contiguous(memory_format=torch.channels_last)
            output = model(x)
            loss = F.mse_loss(output, x) if mse else F.cross_entropy(output, targets[start : start + BATCH])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        return float(total) / (len(images) // BATCH)

    return epoch
