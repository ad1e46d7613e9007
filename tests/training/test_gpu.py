"""What a CUDA device computes is what the CPU computes, and no step waits for it."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import bridge
from torch_convae.data import Split
from torch_convae.data.augment import augmentation
from torch_convae.models import create
from torch_convae.training import Caching, Phase, Run, Splits, Stage, Trainer, classification, graceful, locked
from torch_convae.training.active import Active

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and -m gpu"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """PyTorch warns of its compiler's own code, and that it does not see every wait for a device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


ALL = (Stage("all", 2, 1e-3),)
FROZEN = (Stage("head", 3, 1e-3, train=("head.*",)), Stage("finetune", 2, 1e-4, batch_statistics=False))


def trained(
    folder: Path, run: Run, stages: tuple[Stage, ...] = ALL, augment: str = "none", **options: Any
) -> tuple[list[float], dict[str, Any], dict[str, Tensor]]:
    """The training losses of the DataCamp classifier on random images, the figures, and the weights."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8).to(run.device)
    classes = torch.randint(0, 10, (64,)).to(run.device)
    model = create("convae-classifier", classes=10)
    splits = Splits(
        Split(images, classes),
        lambda _, __: torch.arange(64).split(16),
        {"test": Split(images, classes)},
        batch_size=16,
        augment=augmentation(augment, 0),
    )
    with locked(folder) as where, graceful() as stop:
        trainer = Trainer(run, splits, where, model, stop, **options)
        results = trainer.train([Phase(stage, model, classification()) for stage in stages])
        losses = [line["train_loss"] for line in trainer.progress.history]
    return losses, results, {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def test_a_cuda_device_gives_the_losses_of_the_cpu(tmp_path: Path) -> None:
    on_cpu, _, _ = trained(tmp_path / "cpu", Run(torch.device("cpu")), FROZEN)
    on_cuda, _, _ = trained(tmp_path / "cuda", Run(CUDA, layout="channels-last"), FROZEN)
    assert on_cuda == pytest.approx(on_cpu, rel=1e-2)


@pytest.mark.parametrize(
    "fast",
    [
        Run(CUDA, "bfloat16", "channels-last", compile=True),
        Run(CUDA, recompute=True),
        Run(CUDA, accumulate=2),
    ],
    ids=["compiled in bfloat16", "recomputed", "accumulated"],
)
def test_what_makes_a_run_faster_or_smaller_stays_near(tmp_path: Path, fast: Run) -> None:
    stages = (replace(ALL[0], batch_statistics=False),)  # statistics of half a batch are others
    plain, _, _ = trained(tmp_path / "plain", Run(CUDA), stages)
    found, _, _ = trained(tmp_path / "fast", fast, stages)
    assert found == pytest.approx(plain, rel=1e-1 if fast.precision != "float32" else 1e-2)


def test_float16_learns_once_its_scaler_has_found_a_scale(tmp_path: Path) -> None:
    losses, _, weights = trained(tmp_path / "run", Run(CUDA, "float16", "channels-last"), (replace(ALL[0], epochs=8),))
    assert losses[-1] < 0.8 * losses[0]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_kept_features_train_as_the_ordinary_frozen_loop(tmp_path: Path) -> None:
    kept, _, _ = trained(tmp_path / "kept", Run(CUDA), FROZEN)
    plain, _, _ = trained(tmp_path / "plain", Run(CUDA), FROZEN, caching=Caching("off"))
    assert kept == pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("augment", ["none", "flip,scale,crop,colour"])
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"guard": "off"}], ids=str)
def test_no_step_waits_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str, options: dict[str, Any]
) -> None:
    ordinary, steps = Active.step, []

    def strict(self: Active, *arguments: Any) -> Tensor:
        steps.append(self.stage.name)
        try:
            torch.cuda.set_sync_debug_mode("error")
            return ordinary(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Active, "step", strict)
    stages = tuple(replace(stage, clip=1.0) for stage in FROZEN)
    trained(tmp_path / "run", Run(CUDA, "bfloat16"), stages, augment, **options)
    assert steps == ["head"] * 12 + ["finetune"] * 8


def test_a_run_in_deterministic_mode_gives_the_same_bits_twice(tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        one, _, first = trained(tmp_path / "one", Run(CUDA, "bfloat16"), FROZEN)
        two, _, second = trained(tmp_path / "two", Run(CUDA, "bfloat16"), FROZEN)
    finally:
        torch.use_deterministic_algorithms(False)
    assert one == two
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_files_that_are_read_while_training_reach_the_device(train: Any, class_folder: Path, tmp_path: Path) -> None:
    flags = ("--data", class_folder, "--device", "cuda", "--epochs", 1, "--deterministic", "--batch-size", 8)
    held = train(*flags, "--out", "held")
    read = train(*flags, "--out", "read", "--workers", 1)
    assert (held.code, read.code) == (0, 0), (held, read)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("held", "read"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_killed_run_ends_on_cuda_as_one_that_was_not(train: Any, class_folder: Path, tmp_path: Path) -> None:
    flags = ("--data", class_folder, "--device", "cuda", "--epochs", "2,3,2", "--deterministic", "--batch-size", 8)
    whole = train(*flags, "--out", "whole")
    assert whole.code == 0, whole
    started = train.start(*flags, "--out", "killed")
    log = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(started[0], signal.SIGKILL)
    assert train.wait(started).code == -signal.SIGKILL
    again = train(*flags, "--out", "killed")
    assert again.code == 0, again
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


MASKS = ("unet", "segnet", "segnet:bayesian_segnet", "unet:zhixuhao_unet")


@pytest.mark.parametrize("recipe", ["convae", "vae-gru", "densenet", *MASKS])
def test_every_recipe_runs_on_cuda(train: Any, mask_folder: Path, tmp_path: Path, recipe: str) -> None:
    data = ("--data", mask_folder, "--batch-size", 2) if recipe in MASKS else ("--limit", 64, "--batch-size", 16)
    answer = train(recipe, *data, "--device", "cuda", "--precision", "bfloat16", "--epochs", 1, "--out", "run")
    assert answer.code == 0, answer
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert all(stage["peak_memory"] > 0 for stage in summary["stages"].values())


def test_weights_are_loaded_into_a_module_on_cuda_and_proved_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create("convae-classifier", classes=3)
    bridge.save(model, tmp_path / "model.h5")
    there = create("convae-classifier", classes=3).to(CUDA)
    bridge.load(there, tmp_path / "model.h5")
    for name, tensor in model.state_dict().items():
        assert there.state_dict()[name].device.type == "cuda"
        assert torch.equal(there.state_dict()[name].cpu(), tensor), name
    assert bridge.verify(there, tmp_path / "model.h5").ok
