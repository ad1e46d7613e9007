"""Archives that hold something else than their configuration says are refused with the layer's name."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
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


def edit_weights(path: Path, change: Callable[[h5py.File], Any]) -> None:
    """The same in an archive, whose other members stay as they are."""
    if path.suffix != ".keras":
        edited(path, change)
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, content)


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


def null(file: h5py.File, at: str) -> None:
    file.create_dataset(at, data=h5py.Empty("f4"))


def enormous(file: h5py.File, at: str) -> None:
    file.create_dataset(at, (1 << 33,), "f4")


def text(file: h5py.File, at: str) -> None:
    file[at] = "text"


def compound(file: h5py.File, at: str) -> None:
    file[at] = np.zeros(3, [("a", "f4"), ("b", "f4")])


@pytest.mark.parametrize("form", ["weights.h5", "keras", "weights.json"])
@pytest.mark.parametrize("change", [text, compound, null, enormous])
def test_a_layers_last_array_is_not_left_out_because_it_is_none(
    change: Callable[[h5py.File, str], None], form: str, keras: Any, save: Callable[..., Path], tmp_path: Path
) -> None:
    """A bias that is left out would be filled with zeros, and a variance would be read as the mean."""
    path = save(sequential(keras), form)
    weights = next(tmp_path.glob("*.weights.h5")) if form == "weights.json" else path

    def spoilt(file: h5py.File) -> None:
        file.move("layers/dense/vars/1", "former")
        del file["former"]
        change(file, "layers/dense/vars/1")

    edit_weights(weights, spoilt)
    with pytest.raises(bridge.BridgeError, match=r"layers/dense/vars/1 |takes more than the limit|declares"):
        read(path)


BIASED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "Dense": ("dense/vars/1", lambda layers: layers.Dense(2, name="own"), "Dense"),
    "Conv1D": ("conv1d/vars/1", lambda layers: layers.Conv1D(2, 2, name="own"), "Conv1D"),
    "SeparableConv1D": (
        "separable_conv1d/vars/2",
        lambda layers: layers.SeparableConv1D(2, 2, name="own"),
        "Separable",
    ),
    "LSTM": ("lstm/cell/vars/2", lambda layers: layers.LSTM(2, name="own"), "LSTM"),
    "a cell": ("rnn/cell/vars/2", lambda layers: layers.RNN(layers.GRUCell(2), name="own"), "RNN"),
}


@pytest.mark.parametrize("kind", BIASED)
def test_a_bias_that_the_configuration_has_is_not_left_out_because_the_file_lacks_it(
    kind: str, keras: Any, save: Callable[..., Path]
) -> None:
    last, layer, named = BIASED[kind]
    path = save(keras.Sequential([keras.layers.Input((4, 3)), layer(keras.layers)]), "keras")
    edit_weights(path, lambda file: file.pop(f"layers/{last}"))
    with pytest.raises(bridge.BridgeError, match=rf"layer own holds \d arrays, which are not those of the {named}"):
        read(path)


def test_two_layers_that_come_to_one_name_are_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(nested(keras), "weights.h5")
    edited(path, lambda file: file["layers/conv2d/vars"].attrs.modify("name", "middle/conv"))
    with pytest.raises(bridge.BridgeError, match="two weights are both called middle/conv/kernel"):
        read(path)
