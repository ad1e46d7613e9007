"""What a CUDA device computes is what the CPU computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torch_convae.data import Split
from torch_convae.models import create
from torch_convae.training import Phase, Run, Splits, Stage, Trainer, classification, graceful, locked

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def losses(folder: Path, run: Run, epochs: int = 2) -> list[float]:
    """The training loss of each epoch of the DataCamp classifier on random images."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8).to(run.device)
    classes = torch.randint(0, 10, (64,)).to(run.device)
    model = create("convae-classifier", classes=10)
    phase = Phase(Stage("all", epochs, 1e-3), model, classification())
    splits = Splits(
        Split(images, classes),
        lambda _, __: torch.arange(64).split(16),
        {"test": Split(images, classes)},
        batch_size=16,
    )
    with locked(folder) as where, graceful() as stop:
        trainer = Trainer(run, splits, where, model, stop)
        trainer.train([phase])
        return [line["train_loss"] for line in trainer.progress.history]


def test_a_cuda_device_gives_the_losses_of_the_cpu(tmp_path: Path) -> None:
    on_cpu = losses(tmp_path / "cpu", Run(torch.device("cpu")))
    on_cuda = losses(tmp_path / "cuda", Run(torch.device("cuda"), layout="channels-last"))
    assert on_cuda == pytest.approx(on_cpu, rel=1e-2)


def test_mixed_precision_and_compilation_stay_near(tmp_path: Path) -> None:
    plain = losses(tmp_path / "plain", Run(torch.device("cuda")))
    fast = losses(tmp_path / "fast", Run(torch.device("cuda"), "bfloat16", "channels-last", compile=True))
    assert fast == pytest.approx(plain, rel=1e-1)
