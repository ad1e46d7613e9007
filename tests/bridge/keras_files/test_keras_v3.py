"""Keras 3's own formats hold what the model held, under the user's layer names, whichever version wrote them."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models_of_every_class import (
    MODELS,
    Weights,
    assert_holds,
    held,
    numbers_of,
    read,
    sequential,
    weights_in,
)

import bridge
from bridge.hdf5 import open_file
from bridge.keras_files import keras_v3

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMS = ("weights.h5", "keras", "weights.json")
WRITERS = ("k305", "k321", "k350", "k380", "tf212", "tf214", "tf215")
NAMELESS = ("k305", "k321", "k350", "tf212", "tf214", "tf215")


# Models: each takes Keras and gives a model in which no two layers are alike.


@pytest.mark.parametrize("name", MODELS)
def test_every_format_holds_what_the_model_held(
    name: str, keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(MODELS[name](keras))
    expected = held(model)
    for form in FORMS:
        source = read(save(model, form))
        assert_holds(source, expected)
        assert source.notes[0] == "Layer names come from the file's name attributes."
    assert list(read(save(model, "keras"))) == list(expected), "the architecture tells the order"


# Files of the versions that wrote them


def expected_in(stem: str) -> Weights:
    with np.load(FIXTURES / f"{stem}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("keras3_*.keras")), ids=lambda path: path.stem)
def test_an_archive_holds_what_its_writer_held(path: Path, tmp_path: Path) -> None:
    expected = expected_in(path.stem)
    source = read(path)
    assert_holds(source, expected)
    assert list(source) == list(expected)
    with zipfile.ZipFile(path) as archive:
        config, metadata = (json.loads(archive.read(name)) for name in ("config.json", "metadata.json"))
    assert (source.keras_version, source.architecture) == (metadata["keras_version"], config)
    assert_holds(read(weights_in(path, tmp_path), config | {"keras_version": metadata["keras_version"]}), expected)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_subclassed_model_has_the_names_that_its_writer_saved(writer: str) -> None:
    stem = f"keras3_{writer}_subclassed"
    source = read(FIXTURES / f"{stem}.weights.h5")
    assert_holds(source, expected_in(stem))
    assert source.notes[0].startswith("Layer names come" if writer == "k380" else "Layer names are not in the file")


@pytest.mark.parametrize("writer", NAMELESS)
def test_weights_without_names_keep_the_order_within_a_class(writer: str, tmp_path: Path) -> None:
    stem = f"keras3_{writer}_images"
    source, expected = read(weights_in(FIXTURES / f"{stem}.keras", tmp_path)), expected_in(stem)
    pairs = {
        "conv2d": "stem",
        "conv2d_1": "second",
        "functional/batch_normalization": "encoder/norm",
        "functional/conv2d": "encoder/stem",
        "functional/depthwise_conv2d": "encoder/dw",
        "sequential/separable_conv2d": "tail/sep",
        "sequential/separable_conv2d_1": "tail/sep_b",
        "dense": "head",
    }
    named = {f"{pairs[key.rpartition('/')[0]]}/{key.rpartition('/')[2]}": array for key, array in source.items()}
    assert {key: array.tobytes() for key, array in named.items()} == {
        key: array.tobytes() for key, array in expected.items()
    }
    assert list(source.layers) == list(pairs), "which is the order of writing"


def test_a_layer_of_two_models_in_a_keras_2_archive_does_not_lend_its_name() -> None:
    source = read(FIXTURES / "keras3_tf215_shared.keras")
    assert list(source.layers) == ["both", "inner/dense"]
    assert source.notes[0].startswith("Layer names are not in the file")


# What else a file holds, or leaves open


def test_optimizers_and_metrics_are_left_out_in_inner_models_too(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers
    inner = keras.Sequential([layers.Input((3,)), layers.Dense(2, name="d")], name="inner")
    model = keras.Sequential([layers.Input((3,)), layers.Dense(3, name="g"), inner])
    for each in (inner, model):
        each.compile("adam", "mse", metrics=["mae"])
        each.train_on_batch(np.ones((2, 3), "float32"), np.ones((2, 2), "float32"))
    for form in FORMS:
        assert_holds(read(save(randomised(model), form)), held(model))


def test_the_metrics_that_tf_keras_saved_as_attributes_are_left_out() -> None:
    path = FIXTURES / "keras3_tf215_subclassed.weights.h5"
    with h5py.File(path) as file:
        assert "total_loss_tracker" in file
    assert not [key for key in read(path) if "tracker" in key]


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_float16"])
def test_narrow_numbers_keep_every_bit(
    policy: str, keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers
    inner = [layers.Input((4,)), layers.Dense(3, name="d", dtype=policy), layers.Dense(2, name="wide")]
    model = randomised(keras.Sequential(inner))
    for form in FORMS:
        source = read(save(model, form))
        assert_holds(source, held(model))
        assert source.stored["d/kernel"].dtype == {"mixed_float16": "float32"}.get(policy, policy)


def test_merged_adapters_are_in_the_kernel(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(sequential(keras))
    model.layers[0].enable_lora(2)
    for weight in model.layers[0].trainable_weights:
        weight.assign(np.random.default_rng(5).standard_normal(weight.shape))
    source = read(save(model, "weights.h5"))
    assert source["a/kernel"].tobytes() == numbers_of_tensor(model.layers[0].kernel).tobytes()
    assert sorted(source.layers["a"]) == ["bias", "kernel"]


def numbers_of_tensor(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().numpy())


@pytest.mark.parametrize("form", FORMS)
def test_quantised_weights_are_refused(form: str, keras: Any, save: Callable[..., Path]) -> None:
    model = sequential(keras)
    with warnings.catch_warnings():  # Keras's, of its own variables
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        for layer in model.layers[::2]:
            layer.quantize("int8")
    with pytest.raises(bridge.BridgeError, match=r"layer a is quantised: it holds int8 steps, not the weights"):
        read(save(model, form))


def test_scale_and_center_are_as_the_configuration_has_them(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers
    inner = [layers.Input((3, 4))]
    for scale, center in ((True, True), (True, False), (False, True), (False, False)):
        options = {"scale": scale, "center": center}
        inner += [layers.BatchNormalization(**options), layers.LayerNormalization(**options)]
        inner += [layers.GroupNormalization(2, **options)]
    model = randomised(keras.Sequential(inner))
    assert_holds(read(save(model, "keras")), held(model))
    source = read(save(model, "weights.h5"))
    notes = [note for note in source.notes if "one of gamma and beta" in note]
    assert [re.findall(r"\((\w+)\).*read as (\w+)", note)[0] for note in notes] == [
        ("BatchNormalization", "beta"),
        ("LayerNormalization", "gamma"),
        ("GroupNormalization", "gamma"),
    ]


def test_a_layer_of_the_users_own_has_the_names_it_saved_or_numbers(keras: Any, save: Callable[..., Path]) -> None:
    class Named(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.angle = self.add_weight(shape=(shape[-1],), name="angle")

        def call(self, x: Any) -> Any:
            return x * self.angle

        def save_own_variables(self, store: Any) -> None:
            store["angle"] = self.angle

    class Numbered(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            for index in range(11):
                setattr(self, f"w{index}", self.add_weight(shape=(shape[-1], index + 1), name=f"w{index}"))

        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([keras.layers.Input((3,)), Named(name="turn"), Numbered(name="rest")])
    source = read(save(model, "weights.h5"))
    assert list(source) == ["turn/angle", *(f"rest/param_{index}" for index in range(11))]
    assert source.shapes["rest/param_10"] == (3, 11)
    assert source.kinds == {}


def test_a_subclassed_model_has_its_layers_names(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = layers.Conv2D(3, 2, name="stem")
            self.blocks = [keras.Sequential([layers.Dense(4), layers.Dense(3)], name=f"block{i}") for i in range(2)]
            self.twins = {"a": layers.Dense(3, name="twin"), "b": layers.Dense(2, name="twin")}
            self.rnn = layers.LSTM(2)
            self.offset = self.add_weight(shape=(3,), name="offset")

        def call(self, x: Any) -> Any:
            x = self.blocks[1](self.blocks[0](self.first(x) + self.offset))
            x = self.twins["b"](self.twins["a"](x))
            return self.rnn(keras.ops.mean(x, 1))

    model = Own()
    model(np.zeros((1, 4, 5, 2), "float32"))
    randomised(model)
    a, b = model.twins.values()
    inside = {f"{outer.name}/{layer.name}": layer for outer in model.blocks for layer in outer.layers}
    owners = {"stem": model.first, "lstm": model.rnn, "layers/dense": a, "layers/dense_1": b, **inside}
    expected = {f"{path}/{each.name}": numbers_of(each) for path, layer in owners.items() for each in layer.weights}
    expected["param_0"] = numbers_of(model.offset)
    for form in FORMS:
        assert_holds(read(save(model, form)), expected)


# Shards and folders


# What a source says of itself


def test_a_source_says_what_it_is(keras: Any, save: Callable[..., Path]) -> None:
    model = MODELS["recurrent"](keras)
    formats = {form: read(save(model, form)) for form in FORMS}
    assert [source.format for source in formats.values()] == [
        "keras-v3-weights",
        "keras-v3-archive",
        "keras-v3-shards",
    ]
    archived = formats["keras"]
    assert archived.keras_version == keras.__version__
    assert archived.architecture is not None
    assert archived.architecture["class_name"] == "Functional"
    known = {"words": "Embedding", "bi/forward_both": "LSTM", "td_model/steps/e": "Dense", "gru_a": "GRU"}
    for form, source in formats.items():
        assert known.items() <= source.kinds.items(), form
    assert archived.kinds["td/d"] == "Dense"


def test_weights_are_recognised_by_what_they_hold(keras: Any, save: Callable[..., Path]) -> None:
    paths = [save(sequential(keras), "weights.h5"), *sorted(FIXTURES.glob("keras3_*.weights.h5"))]
    assert all(keras_v3.recognises(open_file(path, isolated=False).root) for path in paths)
    older = sorted(FIXTURES.glob("tf_keras_*.h5"))
    assert not any(keras_v3.recognises(open_file(path, isolated=False).root) for path in older)


def test_a_published_network_is_known_by_its_first_kernel(vgg16_file: Path, tmp_path: Path) -> None:
    published = bridge.read(vgg16_file)
    path = tmp_path / "vgg.weights.h5"
    with h5py.File(path, "w") as file:
        for rank, name in enumerate(("block1_conv1", "block1_conv2")):
            own = file.create_group(f"layers/conv2d_{rank}" if rank else "layers/conv2d").create_group("vars")
            own.attrs["name"] = name
            for index, role in enumerate(("kernel", "bias")):
                own[str(index)] = published[f"{name}/{role}"]
    assert read(path).preprocessing == published.preprocessing is not None


def test_a_file_is_read_in_a_process_of_its_own(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    model = randomised(sequential(keras))
    for form in FORMS:
        assert_holds(bridge.read(save(model, form)), held(model))
