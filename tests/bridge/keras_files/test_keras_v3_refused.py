"""Archives that hold something else than their configuration says are refused with the layer's name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from models_of_every_class import (
    MODELS,
    nested,
    read,
    sequential,
    without_names,
)

import bridge


def test_a_model_that_was_never_built_is_refused(keras: Any, save: Callable[..., Path]) -> None:
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.ReLU()])
    with pytest.raises(bridge.BridgeError, match=r"holds no weights\. Build the model"):
        read(save(model, "weights.h5"))


@pytest.mark.parametrize("other", ["nested", "many", "sequential"])
def test_the_configuration_of_another_model_is_refused(other: str, keras: Any, save: Callable[..., Path]) -> None:
    path = without_names(save(MODELS["plain"](keras), "weights.h5"))
    with pytest.raises(bridge.BridgeError, match=r"which its configuration does not|not those of"):
        read(path, json.loads(MODELS[other](keras).to_json()))


def test_a_normalisation_that_is_not_the_configured_one_is_refused(keras: Any, save: Callable[..., Path]) -> None:
    def model(**options: Any) -> Any:
        return keras.Sequential([keras.layers.Input((3,)), keras.layers.BatchNormalization(name="bn", **options)])

    path = save(model(scale=False, center=False), "weights.h5")
    with pytest.raises(bridge.BridgeError, match="layer bn holds 2 arrays, which are not those of the BatchNorm"):
        read(path, json.loads(model().to_json()))


def edited(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.mark.parametrize("name", ["..", "a/../b", "/", "/a", "a//b", "a\nb", "\x1b[31mred"])
def test_a_layer_name_that_is_none_is_refused(name: str, keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.h5")
    edited(path, lambda file: file["layers/dense/vars"].attrs.modify("name", name))
    with pytest.raises(bridge.BridgeError, match=r"names a (layer|weight)") as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_arrays_with_a_gap_in_their_numbers_are_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.h5")
    edited(path, lambda file: file["layers/dense/vars"].move("1", "2"))
    with pytest.raises(bridge.BridgeError, match=r"numbered \['0', '2'\], not from 0 on without gaps"):
        read(path)


def test_a_link_in_the_place_of_an_array_is_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.h5")

    def linked(file: h5py.File) -> None:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense_1/vars/0")

    with pytest.raises(bridge.BridgeError, match="holds '0', a link to another place"):
        read(edited(path, linked))


def test_two_layers_that_come_to_one_name_are_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(nested(keras), "weights.h5")
    edited(path, lambda file: file["layers/conv2d/vars"].attrs.modify("name", "middle/conv"))
    with pytest.raises(bridge.BridgeError, match="two weights are both called middle/conv/kernel"):
        read(path)
