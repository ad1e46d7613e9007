"""Trainers so small that a test can run, stop and kill many: two networks that share an encoder, three stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_convae.data import Split
from torch_convae.training import (
    Folder,
    Phase,
    Run,
    Splits,
    Stage,
    Trainer,
    classification,
    reconstruction,
)
from torch_convae.training.interrupt import Stop


class Unit(nn.Module):
    """Bytes to 0..1."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class Encoder(nn.Sequential):
    """All that can move although it is frozen: weights, running statistics, Dropout's random numbers."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.25))


class TinyAutoencoder(nn.Module):
    """An encoder and one layer back to the image."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.preprocessing = Unit()
        self.encoder = encoder
        self.decoder = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.encoder(x))
        return output


class TinyClassifier(nn.Module):
    """The same encoder under a head with its own BatchNorm and Dropout."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.preprocessing = Unit()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * 36, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(x))
        return output


class TinyApart(TinyClassifier):
    """The same, but its encoder's features may be kept."""

    ENCODING = ("encoder",)

    def encode(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x)
        return features

    def decode(self, features: Tensor) -> Tensor:
        output: Tensor = self.head(features)
        return output


STAGES = (
    Stage("pretrain", epochs=2, lr=1e-2),
    Stage("head", epochs=2, lr=1e-2, train=("head.*",), decay=True),
    Stage("finetune", epochs=2, lr=1e-3, batch_statistics=False),
)


@dataclass
class Tiny:
    """Three phases on two tiny networks that share an encoder, the same from the same seed."""

    models: nn.ModuleDict
    phases: tuple[Phase, ...]
    trainer: Trainer

    def train(self) -> dict[str, dict[str, Any]]:
        return self.trainer.train(self.phases)

    @property
    def state(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.models.state_dict().items()}


def tiny_run(
    folder: Path,
    stages: tuple[Stage, ...] = STAGES,
    seed: int = 0,
    run: Run | None = None,
    apart: bool = False,
) -> Tiny:
    """A trainer for a folder; the same call again makes the same weights, data and order."""
    torch.manual_seed(seed)
    encoder = Encoder()
    models = nn.ModuleDict(
        {"autoencoder": TinyAutoencoder(encoder), "classifier": (TinyApart if apart else TinyClassifier)(encoder)}
    )
    numbers = torch.Generator().manual_seed(1)
    labels = torch.arange(14) % 3
    images = (torch.rand(14, 1, 6, 6, generator=numbers) * 100 + labels.view(-1, 1, 1, 1) * 60).to(torch.uint8)

    def order(stage: int, epoch: int) -> list[Tensor]:
        shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(10 * stage + epoch))
        return list(shuffled.split(4))

    measured = {"test": Split(images[10:], labels[10:])}
    splits = Splits(Split(images[:10], labels[:10]), order, measured, batch_size=4)
    tasks = {"pretrain": (models["autoencoder"], reconstruction())}
    phases = tuple(Phase(stage, *tasks.get(stage.name, (models["classifier"], classification()))) for stage in stages)
    folder.mkdir(exist_ok=True)
    return Tiny(models, phases, Trainer(run or Run(torch.device("cpu")), splits, Folder(folder), models, Stop()))
