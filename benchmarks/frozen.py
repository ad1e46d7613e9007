"""Epochs of a head on a frozen encoder: features that are kept against features computed anew in every epoch.

Both train the same head on the same batches; the losses of all epochs agree before anything is timed.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from torch_convae.data import Split
from torch_convae.models import Model, VGG16Encoder, create
from torch_convae.training import Caching, Phase, Run, Splits, Stage, Trainer, classification, device, graceful, locked

from .compare import environment, summary

BATCH = 64  # as in the tutorial
EPOCHS = 6


class PooledVGG16(Model):
    """VGG16's last map, pooled, under one dense layer: the plainest transfer there is."""

    ENCODING: ClassVar[tuple[str, ...]] = ("encoder",)

    def __init__(self, classes: int) -> None:
        super().__init__("caffe")
        self.encoder = VGG16Encoder()
        self.head = nn.Linear(512, classes)

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, 512)."""
        features: Tensor = self.encoder(x)[-1].mean(dim=(2, 3))
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(features)
        return logits


def run(repeats: int, name: str = "auto", tiny: bool = False) -> dict[str, Any]:
    """Seconds of an epoch after the first, kept and computed, for the conv autoencoder's classifier and VGG16.

    On a processor they are its own time, as in `train_step`. `tiny` tries the code.
    """
    images, photographs, side = (BATCH, 2, 32) if tiny else (640, 64, 64)
    where = device(name)
    torch.manual_seed(0)
    results = {
        "convae-classifier, 28 x 28": _compare(
            create("convae-classifier", classes=10), (images, 1, 28, 28), repeats, where
        ),
        "VGG16's pooled features, 64 x 64": _compare(PooledVGG16(10), (photographs, 3, side, side), repeats, where),
    }
    return {
        "benchmark": "frozen",
        "what": f"an epoch of training a head on a frozen encoder, batch {BATCH}, Adam, float32, log included",
        **results,
        "environment": environment(),
    }


def _compare(model: Model, shape: tuple[int, ...], repeats: int, where: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(where)
    split = Split(images, torch.randint(0, 10, (shape[0],), generator=generator).to(where))
    ways = {way: _trainer(model, split, Caching(mode), where) for way, mode in (("kept", "auto"), ("computed", "off"))}
    losses = {way: call()[1] for way, call in ways.items()}
    torch.testing.assert_close(torch.tensor(losses["kept"]), torch.tensor(losses["computed"]), rtol=1e-4, atol=1e-5)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, call in ways.items():
            seconds[way] += call()[0]
    epochs = {way: summary(times) for way, times in seconds.items()}
    return {
        "images": shape[0],
        "losses": losses,
        "seconds_of_an_epoch": epochs,
        "times_kept": {
            which: round(epochs["computed"][which] / epochs["kept"][which], 1) for which in ("median", "min")
        },
    }


def _trainer(
    model: Model, split: Split, caching: Caching, where: torch.device
) -> Callable[[], tuple[list[float], list[float]]]:
    """What trains a copy of the model anew: the seconds of each epoch but the first, and the losses of all."""
    clock = time.process_time if where.type == "cpu" else time.perf_counter

    def order(stage: int, epoch: int) -> Iterable[Tensor]:
        generator = torch.Generator().manual_seed(100 * stage + epoch)
        return list(torch.split(torch.randperm(len(split), generator=generator), BATCH))

    def train() -> tuple[list[float], list[float]]:
        network, ends = deepcopy(model), []
        phase = Phase(Stage("head", EPOCHS, 1e-3, train=("head.*",)), network, classification())
        splits = Splits(split, order, {}, BATCH)
        run = Run(where, layout="channels-last")
        with tempfile.TemporaryDirectory() as path, locked(Path(path)) as folder, graceful() as stop:
            trainer = Trainer(run, splits, folder, network, stop, caching=caching)
            trainer.logged = lambda _: ends.append(clock())
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.train([phase])
            seconds = [end - begun for begun, end in pairwise(ends)]
            return seconds, [line["train_loss"] for line in trainer.progress.history]

    return train
