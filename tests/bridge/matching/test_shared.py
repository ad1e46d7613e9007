"""A layer that is used several times, in a model or in several: one module at several places, filled from one array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def model_of(keras: Any, steps: list[Any], name: str, size: tuple[int, ...] = (4,)) -> Any:
    x = inputs = keras.layers.Input(size)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name=name)


def twice_in_one(keras: Any, shared: Any, dense: Callable[[str], Any]) -> list[Any]:
    return [model_of(keras, [shared, dense("a"), shared], "mid")]


def in_two_models_of_one(keras: Any, shared: Any, dense: Callable[[str], Any]) -> list[Any]:
    first, second = (model_of(keras, [shared, dense(name)], f"with_{name}") for name in "ab")
    return [model_of(keras, [first, second], "mid")]


def in_two_sequential_models(keras: Any, shared: Any, dense: Callable[[str], Any]) -> list[Any]:
    inputs = keras.layers.Input((4,))
    return [keras.Sequential([inputs, shared, dense(name)], name=f"with_{name}") for name in "ab"]


def in_a_model_of_two(keras: Any, shared: Any, dense: Callable[[str], Any]) -> list[Any]:
    inner = keras.Sequential([keras.layers.Input((4,)), shared], name="inner")
    first, second = (model_of(keras, [inner, dense(name)], f"with_{name}") for name in "ab")
    return [model_of(keras, [first, second], "mid")]


def in_a_model_and_beside_it(keras: Any, shared: Any, _: Callable[[str], Any]) -> list[Any]:
    inner = keras.Sequential([keras.layers.Input((4,)), shared], name="inner")
    return [model_of(keras, [inner, shared], "mid")]


def module_of(layer: Any, made: dict[Any, nn.Module]) -> nn.Module:
    """The same network in PyTorch: a model becomes a module with its layers, a layer that is shared one module."""
    if layer not in made and hasattr(layer, "layers"):
        made[layer] = tree(**{inner.name: module_of(inner, made) for inner in layer.layers if inner.weights})
    elif layer not in made:
        made[layer] = nn.Linear(*layer.kernel.shape)
    return made[layer]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "build",
    [twice_in_one, in_two_models_of_one, in_two_sequential_models, in_a_model_of_two, in_a_model_and_beside_it],
)
def test_a_shared_layer_is_filled_wherever_it_stands_and_goes_back(
    build: Callable[..., Any], form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    parts = build(keras, layers.Dense(4, name="shared"), lambda name: layers.Dense(4, name=name))
    model = randomised(model_of(keras, [*parts, layers.Dense(2, name="top")], "whole"))
    path = file_of(model, form, saved, tmp_path)
    made: dict[Any, nn.Module] = {}
    module = module_of(model, made)
    plan = bridge.load(module, path, strict=True)
    assert (plan.skipped, plan.untouched) == ((), ())
    for layer, own in made.items():
        if isinstance(own, nn.Linear):
            np.testing.assert_array_equal(own.weight.detach(), layer.kernel.numpy().T)
            np.testing.assert_array_equal(own.bias.detach(), layer.bias.numpy())
    assert bridge.verify(module, path).ok
    back = bridge.save(module, tmp_path / f"back{'.h5' if form in ('whole', 'weights') else form}", like=path)
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(bridge.read(back)[key], array)


def test_two_layers_of_one_name_are_not_taken_for_a_shared_one(keras: Any, randomised: Any, saved: Any) -> None:
    layers = keras.layers
    [mid] = in_two_models_of_one(keras, layers.Dense(4, name="shared"), lambda name: layers.Dense(4, name=name))
    path = saved(randomised(model_of(keras, [mid], "whole")), weights_only=True)
    pairs = {name: tree(shared=nn.Linear(4, 4), **{name[-1]: nn.Linear(4, 4)}) for name in ("with_a", "with_b")}
    module = tree(mid=tree(**pairs))
    plan = bridge.load(module, path)
    assert plan.skipped == ("mid/shared/kernel", "mid/shared/bias")
    assert not torch.equal(pairs["with_a"].shared.weight, pairs["with_b"].shared.weight)
