"""What layers are called where the archive holds no names, and where names are the user's own."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_of_every_class import (
    MODELS,
    assert_holds,
    held,
    many,
    read,
    weights_in,
    without_names,
)
from torch import nn

import bridge

FORMS = ("weights.h5", "keras", "weights.json")


@pytest.mark.parametrize("name", MODELS)
def test_names_come_from_the_configuration_where_the_file_has_none(
    name: str, keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(MODELS[name](keras))
    source = read(without_names(save(model, "weights.h5")), json.loads(model.to_json()))
    assert_holds(source, held(model))
    assert list(source) == list(held(model))
    assert source.notes == ("Layer names come from the model's configuration.",)


@pytest.mark.parametrize("form", FORMS)
def test_class_and_order_stand_for_names_that_nothing_tells(
    form: str, keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(MODELS["plain"](keras))
    path = save(model, form)
    for each in path.parent.glob("*.h5"):
        without_names(each)
    if form == "keras":
        path = without_names(weights_in(path, path.parent))
    source, expected = read(path), held(model)
    assert source["conv2d_1/kernel"].tobytes() == expected["conv2d/kernel"].tobytes(), "the second, not the first"
    assert {layer: sorted(shapes) for layer, shapes in source.layers.items()} == {
        "conv2d": ["bias", "kernel"],
        "conv2d_1": ["kernel"],
        "batch_normalization": ["beta", "gamma", "moving_mean", "moving_variance"],
        "batch_normalization_1": ["beta", "moving_mean", "moving_variance"],
        "dense": ["bias", "kernel"],
        "dense_1": ["bias", "kernel"],
    }
    assert source.notes[0].startswith("Layer names are not in the file: class and order")
    assert source.notes[1].startswith(
        "batch_normalization_1 (BatchNormalization): one of gamma and beta is there and the file does not say which; "
        "it is read as beta"
    )
    assert source.notes[2].startswith("The file does not say the model's order")


def test_layers_of_a_class_stay_in_order_beyond_ten(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(many(keras))
    kernels = [array for key, array in held(model).items() if key.endswith("kernel")]
    source = read(without_names(save(model, "weights.h5")))
    found = [key for key in source if key.endswith("kernel")]
    assert found == ["conv2d/kernel", *(f"conv2d_{index}/kernel" for index in range(1, 12)), "dense/kernel"]
    assert [source[key].tobytes() for key in found] == [array.tobytes() for array in kernels]


def test_convolutions_without_names_find_their_places_by_rank(
    keras: Any,
    randomised: Callable[..., Any],
    save: Callable[..., Path],
    chain: type[nn.Module],
    images: Callable[..., np.ndarray],
    assert_same: Callable[..., None],
) -> None:
    layers, steps = keras.layers, []
    x = inputs = layers.Input((12, 10, 3))
    widths = (3, 4, 4, 5, 5, 2)
    for index, (given, out) in enumerate(pairwise(widths)):
        x = layers.Conv2D(out, 3, padding="same", activation="relu", name=f"block{index}")(x)
        steps += [(f"conv2d_{index}" if index else "conv2d", nn.Conv2d(given, out, 3, padding=1)), ("", nn.ReLU())]
    model = randomised(keras.Model(inputs, x))
    module = chain(*steps)
    plan = bridge.load(module, read(without_names(save(model, "weights.h5"))), strict=True)
    assert len(plan.copied) == 10
    assert_same(model, module, images(2, 12, 10, 3))


def test_the_layers_of_a_model_that_is_a_class_stand_by_their_attributes_and_that_is_said(
    keras: Any, save: Callable[..., Path]
) -> None:
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.late = keras.layers.Conv2D(3, 1, name="first")
            self.early = keras.layers.Conv2D(3, 1, name="second")

        def call(self, x: Any) -> Any:
            return self.early(self.late(x))

    model = Net()
    model(np.zeros((1, 2, 2, 3), np.float32))
    source = read(save(model, "weights.h5"))
    assert list(source.layers) == ["second", "first"]
    assert any("a model that is a class keeps layers by their attributes' names" in note for note in source.notes)


@pytest.mark.parametrize("form", FORMS)
def test_the_vector_of_a_spectral_normalization_is_no_bias(form: str, keras: Any, save: Callable[..., Path]) -> None:
    layers = keras.layers
    wrapped = layers.SpectralNormalization(layers.Conv2D(4, 3, name="inner"), name="outer")
    source = read(save(keras.Sequential([layers.Input((5, 5, 2)), wrapped]), form))
    assert sorted(source) == ["outer/inner/bias", "outer/inner/kernel", "outer/vector_u"]


def test_a_class_of_the_users_own_that_is_called_like_one_of_keras_is_read_and_said(
    keras: Any, save: Callable[..., Path]
) -> None:
    @keras.saving.register_keras_serializable("mine")
    class Dense(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.gain, self.kernel, self.shift = (self.add_weight(shape=size) for size in ((4,), (shape[-1], 4), (4,)))

        def call(self, x: Any) -> Any:
            return (x @ self.kernel) * self.gain + self.shift

    @keras.saving.register_keras_serializable("mine")
    class LayerNormalization(keras.layers.LayerNormalization):  # type: ignore[misc]
        pass

    layers = [Dense(name="d"), LayerNormalization(name="n"), keras.layers.Dense(2, name="head")]
    source = read(save(keras.Sequential([keras.layers.Input((6,)), *layers]), "keras"))
    assert [key for key in source if key.startswith("d/")] == ["d/param_0", "d/param_1", "d/param_2"]
    assert source.shapes["d/param_1"] == (6, 4)
    (note,) = (note for note in source.notes if "not Keras's" in note)
    assert note.startswith("n (LayerNormalization): the class is not Keras's but one of that name")
    assert {"n/gamma", "n/beta", "head/kernel"} <= source.keys()


def test_what_a_model_has_beside_its_layers_is_in_every_format(
    keras: Any, save: Callable[..., Path], saved: Any
) -> None:
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = keras.layers.Dense(2, name="head")
            self.tau = self.add_weight(shape=(), name="tau", initializer="ones")

        def call(self, x: Any) -> Any:
            return self.head(x) * self.tau

    model = Net()
    model(np.zeros((1, 3), np.float32))
    for path in (save(model, "weights.h5"), saved(model, weights_only=True)):
        own = {key for key in read(path) if "/" not in key}
        assert len(own) == 1
        assert read(path)[own.pop()] == 1.0
    again = path.with_name("again.h5")
    bridge.convert(path, again)
    model.tau.assign(3.0)
    model.load_weights(again)
    assert float(model.tau.value.detach()) == 1.0


def test_a_cell_of_the_users_own_has_the_weights_that_it_has(keras: Any, save: Callable[..., Path]) -> None:
    """Its configuration is that of the class it was made from, which has a bias."""

    @keras.saving.register_keras_serializable("mine")
    class Plain(keras.layers.SimpleRNNCell):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

        def call(self, x: Any, states: Any, training: bool = False) -> Any:  # noqa: ARG002
            state = keras.ops.tanh(x @ self.kernel + states[0] @ self.recurrent_kernel)
            return state, [state]

    layers = [keras.layers.RNN(Plain(3), name="r"), keras.layers.Dense(2, name="head")]
    source = read(save(keras.Sequential([keras.layers.Input((5, 4)), *layers]), "keras"))
    assert sorted(source) == ["head/bias", "head/kernel", "r/kernel", "r/recurrent_kernel"]
