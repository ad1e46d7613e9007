"""A convolution whose class a file does not say goes where the module says; a converted file says its guess."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge

LAYERS = {  # name: the module that it is for, and the shape of Keras's kernel
    "plain": (lambda bias: nn.Conv2d(2, 5, 3, bias=bias), (3, 3, 2, 5)),
    "widened": (lambda bias: nn.ConvTranspose2d(1, 4, 3, bias=bias), (3, 3, 4, 1)),
    "joined": (lambda bias: nn.ConvTranspose2d(6, 1, 3, bias=bias), (3, 3, 1, 6)),
    "apart": (lambda bias: nn.Conv2d(4, 4, 3, groups=4, bias=bias), (3, 3, 4, 1)),
    "doubled": (lambda bias: nn.Conv2d(3, 6, 3, groups=3, bias=bias), (3, 3, 3, 2)),
    "narrowed": (lambda bias: nn.Conv2d(4, 1, 3, bias=bias), (3, 3, 4, 1)),
}


@pytest.fixture
def files(written: Any, numbers: Any) -> Any:
    def write(bias: bool, version: bytes = b"2.4.0") -> tuple[Path, nn.Module]:
        module = nn.ModuleDict({name: make(bias) for name, (make, _) in LAYERS.items()})
        layers = {}
        for seed, (name, (_, shape)) in enumerate(LAYERS.items()):
            layers[name] = {f"{name}/kernel:0": numbers(*shape, seed=seed)}
            if bias:
                layers[name][f"{name}/bias:0"] = numbers(*module[name].bias.shape, seed=seed)
        return written(layers, keras_version=version), module

    return write


@pytest.mark.parametrize("bias", [True, False])
def test_the_module_says_of_which_class_a_kernel_of_one_channel_is(bias: bool, files: Any) -> None:
    path, module = files(bias)
    plan = bridge.load(module, path, strict=True)
    assert not plan.skipped
    assert bridge.verify(module, path).ok


def test_a_converted_file_says_which_classes_are_guessed(files: Any, tmp_path: Path) -> None:
    (note,) = bridge.convert(files(True)[0], tmp_path / "w.pt").notes
    assert note.startswith("widened, apart: the file does not say the class, and a DepthwiseConv2D of one channel has")
    (note,) = bridge.convert(files(False)[0], tmp_path / "w.pt").notes
    assert note.startswith("widened, apart, narrowed: the file does not say the class, and a Conv2D of one channel has")


@pytest.mark.parametrize(("name", "told"), [("conv2d_transpose_1", 0), ("depthwise_conv2d_2", 0), ("mine", 1)])
def test_a_name_that_keras_gave_says_the_class(
    name: str, told: int, written: Any, numbers: Any, tmp_path: Path
) -> None:
    layers = {name: {f"{name}/kernel:0": numbers(3, 3, 4, 1), f"{name}/bias:0": numbers(4)}}
    path = written(layers, keras_version=b"2.4.0")
    done = bridge.convert(path, tmp_path / "w.pt")
    assert len(done.notes) == told
    weight = torch.load(tmp_path / "w.pt")[f"{name}.weight"]
    kernel = bridge.read(path)[f"{name}/kernel"]
    axes = (3, 2, 0, 1) if "transpose" in name else (2, 3, 0, 1)
    np.testing.assert_array_equal(weight.numpy(), kernel.transpose(axes))


@pytest.mark.parametrize(("name", "told"), [("up1", 1), ("conv1", 0)])
def test_a_transposed_convolution_of_keras_1_may_be_told_by_its_name_alone(
    name: str, told: int, written: Any, numbers: Any, tmp_path: Path
) -> None:
    path = written({name: {f"{name}_W": numbers(3, 3, 4, 4), f"{name}_b": numbers(4)}}, keras_version=b"1.2.2")
    done = bridge.convert(path, tmp_path / "w.pt")
    assert sum("Keras 1 stored a transposed convolution in another order" in note for note in done.notes) == told
