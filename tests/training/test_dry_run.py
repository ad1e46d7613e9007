"""A dry run says what would happen, and leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from torch_convae import create
from torch_convae.training import Phase, Run, Stage, classification, estimate, freeze_all_but, segmentation, train_mode
from torch_convae.training.tasks import Objective


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    train: Any, class_folder: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    before = contents(tmp_path)
    answer = train("--data", class_folder, "--batch-size", 8, "--epochs", "1,2,0", "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert contents(tmp_path) == before
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["pretrain", "1", "3", "0.001", "*", "1,755,841", "1,755,841"] in lines
    assert ["head", "2", "3", "0.001", "head.*", "524,803", "1,698,403"] in lines
    assert not any(line[:1] == ["finetune"] for line in lines), "a stage of 0 epochs would not happen"
    assert "no file is loaded" in answer.out
    memory = {
        line[0]: line for line in lines[lines.index(next(line for line in lines if line[:1] == ["memory"])) :] if line
    }
    assert memory["head"][1:3] == ["6.49", "MiB"]


def test_a_dry_run_refuses_what_a_run_would_refuse(refused: Callable[..., str]) -> None:
    assert "neither a folder" in refused("--data", "nowhere", "--dry-run")


@pytest.mark.parametrize("trained", ["*", "decoder.*"])
def test_the_memory_of_activations_is_what_a_real_step_keeps(trained: str) -> None:
    model = create("vgg16_unet", classes=3, blocks=3)
    phase = Phase(Stage("head", 1, 1e-3, (trained,)), model, segmentation(255))
    freeze_all_but(model, phase.stage.train)
    train_mode(model)
    images, masks = torch.zeros(2, 3, 32, 48, dtype=torch.uint8), torch.zeros(2, 32, 48, dtype=torch.uint8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    need = estimate(Run(torch.device("cpu")), phase, images, masks)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    storages: dict[int, int] = {}
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        sums = Objective(model, phase.task)(model.preprocessing(images), masks)
    assert need.activations == sum(storages.values())
    released = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    sums.sum().backward()
    assert need.gradients == 4 * released == need.optimizer // 2


def test_a_compiled_network_needs_what_it_needs_uncompiled() -> None:
    model = create("convae-classifier", classes=3)
    phase = Phase(Stage("all", 1, 1e-3), model, classification())
    images, labels, run = torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.zeros(2).long(), Run(torch.device("cpu"))
    plain = estimate(run, phase, images, labels)
    model.compile()
    assert estimate(run, phase, images, labels) == plain, "before anything is compiled"
    with torch.no_grad():
        model(torch.zeros(2, 1, 28, 28))
    assert estimate(run, phase, images, labels) == plain
