"""The epsilon of a BatchNormalization in files without an architecture: published networks have their own."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
OWN, USUAL = 1.001e-5, 1e-3


def resnet(second: bool) -> Any:
    """keras.applications' ResNet of either version, of two short blocks."""
    published = importlib.import_module("keras.src.applications.resnet")
    stack = published.stack_residual_blocks_v2 if second else published.stack_residual_blocks_v1

    def blocks(x: Any) -> Any:
        return stack(stack(x, 4, 2, stride1=1, name="conv2"), 8, 2, name="conv3")

    return published.ResNet(
        blocks, preact=second, use_bias=True, include_top=False, weights=None, input_shape=(32, 32, 3), name="base"
    )


def norms_of(model: Any) -> dict[str, float]:
    """The epsilon of every normalisation, as Keras has it."""
    return {layer.name: layer.epsilon for layer in model.layers if type(layer).__name__ == "BatchNormalization"}


@pytest.mark.parametrize("form", ["weights", ".weights.h5"])
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("second", [False, True], ids=["first version", "second version"])
def test_a_resnet_has_its_own_epsilon_and_a_head_of_the_users_own_has_kerass(
    second: bool, nested: bool, form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers, base = keras.layers, resnet(second)
    x = base(base.input) if nested else base.output
    for name in (None, "head_bn"):
        x = layers.BatchNormalization(name=name)(x)
    model = randomised(keras.Model(base.input, x))
    said = norms_of(base) | norms_of(model)
    assert set(said.values()) == {OWN, USUAL}
    path = file_of(model, form, saved, tmp_path)
    widths = {key.split("/")[-2]: shape[0] for key, shape in bridge.read(path).shapes.items() if key.endswith("gamma")}
    right = tree(**{name: nn.BatchNorm2d(widths[name], eps=eps) for name, eps in said.items()})
    plan = bridge.load(right, path)
    assert len(plan.copied) == 4 * len(said)
    assert not any("eps=" in note for note in plan.notes)
    assert bridge.verify(right, path).ok
    wrong = tree(**{name: nn.BatchNorm2d(widths[name], eps=USUAL) for name in said})
    notes = [note for note in bridge.load(wrong, path).notes if "eps=" in note]
    assert len(notes) == 1
    assert "eps=0.001; these networks have 1.001e-05 and this file does not say." in notes[0]
    assert not bridge.verify(wrong, path).ok


@pytest.mark.parametrize("names", [("conv1_conv", "conv1_bn"), ("conv1/conv", "conv1/bn")])
def test_a_densenet_as_keras_applications_named_it_is_folded_with_its_epsilon(
    names: tuple[str, str], written: Any, numbers: Any
) -> None:
    conv, norm = names
    roles = ("gamma", "beta", "moving_mean", "moving_variance")
    arrays = {role: np.abs(numbers(4, seed=seed)) * 1e-3 for seed, role in enumerate(roles)}
    layers = {conv: {f"{conv}/kernel:0": numbers(3, 3, 2, 4)}}
    layers[norm] = {f"{norm}/{role}:0": array for role, array in arrays.items()}
    layers["conv2_block1_0_bn"] = {f"conv2_block1_0_bn/{role}:0": numbers(4) for role in roles}
    source = bridge.read(written(layers, keras_version="2.2.4"))
    folded = bridge.adapt.fold_batch_norm(source, pairs={norm: conv})
    factor = arrays["gamma"] / np.sqrt(arrays["moving_variance"] + OWN)
    np.testing.assert_allclose(folded[f"{conv}/kernel"], source[f"{conv}/kernel"] * factor, rtol=1e-5)
    assert torch.isfinite(torch.from_numpy(folded[f"{conv}/bias"])).all()
