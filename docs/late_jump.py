"""Why a loss jumps after the encoder is released, and what keeps it from it: python docs/late_jump.py OUT.png

Frames of a moving blob; an encoder pretrained as an autoencoder; a GRU that reads its velocity from the frozen
encoder; then the release, in four ways. The guard only reports here, so that the jumps can be seen.
"""

from __future__ import annotations

import math
import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from torch_convae import ConvaeError
from torch_convae.data import Split
from torch_convae.training import (
    Mean,
    Phase,
    Release,
    Run,
    Splits,
    Stage,
    Task,
    Trainer,
    graceful,
    locked,
    reconstruction,
)
from torch_convae.training.active import Active

FRAMES, SIZE, SEQUENCES, BATCH = 6, 16, 320, 16


class Unit(nn.Module):
    """Bytes to 0..1."""

    def forward(self, images: Tensor) -> Tensor:
        """The same images."""
        return images.float() / 255


class Frames(nn.Module):
    """An autoencoder of single frames, whose encoder the reader takes over."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = Unit()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
            nn.ReLU(), nn.Flatten(), nn.Linear(512, 32),
        )  # fmt: skip
        self.decoder = nn.Linear(32, SIZE * SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """The middle frame of each sequence (N, T, H, W), again as one of (N, T, H, W)."""
        codes = self.encoder(x.flatten(0, 1)[:, None])
        return self.decoder(codes).view(x.shape)


class Reader(nn.Module):
    """Sequences (N, T, H, W) to velocities (N, 2): a GRU on the codes of the frames."""

    ENCODING = ("encoder",)

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.preprocessing = Unit()
        self.encoder = encoder
        self.gru = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Linear(64, 2)

    def encode(self, x: Tensor) -> Tensor:
        """The code of every frame (N, T, 32)."""
        return self.encoder(x.flatten(0, 1)[:, None]).view(*x.shape[:2], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Velocities, from the last state."""
        return self.head(self.gru(codes)[1][-1])

    def forward(self, x: Tensor) -> Tensor:
        """Velocities."""
        return self.decode(self.encode(x))


def blobs() -> Split:
    """A blob that moves in a straight line, bright or dim, so that batches differ in their statistics."""
    numbers = torch.Generator().manual_seed(0)
    start = torch.rand(SEQUENCES, 2, generator=numbers) * 6 + 5
    velocity = torch.rand(SEQUENCES, 2, generator=numbers) * 2 - 1
    bright = torch.rand(SEQUENCES, 1, 1, 1, generator=numbers) * 0.8 + 0.2
    where = start[:, None] + velocity[:, None] * torch.arange(FRAMES)[None, :, None]
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    far = (y - where[..., 0, None, None]) ** 2 + (x - where[..., 1, None, None]) ** 2
    return Split((torch.exp(-far / 6) * bright * 255).to(torch.uint8), velocity)


def trained(stages: list[Phase], models: nn.Module, splits: Splits, losses: list[float]) -> None:
    """Runs phases; every step's loss is noted."""
    with tempfile.TemporaryDirectory() as path, locked(Path(path)) as folder, graceful() as stop:
        trainer = Trainer(Run(torch.device("cpu")), splits, folder, models, stop, guard="report")
        note = trainer._note

        def noted(row: Tensor) -> None:
            losses.append(float(row[0]))
            note(row)

        trainer._note = noted  # type: ignore[method-assign]
        trainer.train(stages)


WAYS = {
    "A: 3e-3 for all, batch statistics": Stage("finetune", 10, 3e-3),
    "C: 3e-4 for all, batch statistics": Stage("finetune", 10, 3e-4),
    "E: 1e-4 and 1e-3, running statistics, clipped": Stage(
        "finetune", 10, 1e-3, ("gru.*", "head.*"), release=(Release(("encoder.*",), 0, 0.1),), clip=1.0
    ),
}
WAYS["H: as E, but measuring leaves the network in training mode"] = WAYS[
    "E: 1e-4 and 1e-3, running statistics, clipped"
]


def main() -> None:
    """Train, print a table, draw the losses."""
    torch.manual_seed(0)
    split = blobs()
    order = lambda stage, epoch: torch.randperm(  # noqa: E731
        SEQUENCES - 64, generator=torch.Generator().manual_seed(100 * stage + epoch)
    ).split(BATCH)
    splits = Splits(
        Split(split.images[64:], split.targets[64:]),
        order,
        {"val": Split(split.images[:64], split.targets[:64])},
        BATCH,
    )
    frames = Frames()
    reader = Reader(frames.encoder)
    velocity = Task(Mean(lambda output, _, targets: F.mse_loss(output, targets)))
    before: list[float] = []
    phases = [
        Phase(Stage("pretrain", 8, 1e-3), frames, reconstruction()),
        Phase(Stage("head", 60, 2e-3, ("gru.*", "head.*")), reader, velocity),
    ]
    trained(phases, nn.ModuleDict({"frames": frames, "reader": reader}), splits, before)
    base = sum(before[-50:]) / 50
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axis = figure.subplots()
    print(f"before the release: {base:.5f}")
    for name, stage in WAYS.items():
        copy, losses = deepcopy(reader), []
        own = Active.train_mode
        if name.startswith("H"):
            epochs: list[int] = []

            def careless(self: Active, own=own, epochs=epochs) -> None:  # type: ignore[no-untyped-def]
                epochs.append(1)
                own(self) if len(epochs) < 5 else self.phase.model.train()

            Active.train_mode = careless  # type: ignore[method-assign]
        try:
            trained([Phase(replace(stage), copy, velocity)], copy, splits, losses)
        except ConvaeError as error:
            print(f"{name}: {error}")
        finally:
            Active.train_mode = own  # type: ignore[method-assign]
        first, worst, last = sum(losses[:10]) / 10, max(losses), sum(losses[-50:]) / 50
        print(f"{name:62} first 10: {first:.4f}  worst: {worst:.4f} (x{worst / base:.1f})  last 50: {last:.4f}")
        axis.plot([math.log10(loss) for loss in [*before[-80:], *losses]], label=name)
    axis.axvline(80, color="0.7")
    axis.set(xlabel="step, the release at 80", ylabel="log10 of the loss")
    axis.legend(fontsize=7)
    figure.savefig(sys.argv[1], dpi=100)


if __name__ == "__main__":
    main()
