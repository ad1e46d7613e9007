"""Keras 3's own formats hold what the model held, under the user's layer names, whichever version wrote them."""

import json
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from torch import nn

import bridge
from bridge.hdf5 import open_file, reading
from bridge.keras_files import keras_v3

FIXTURES = Path(__file__).parent / "fixtures"
FORMS = ("weights.h5", "keras", "weights.json")
WRITERS = ("k305", "k321", "k350", "k380", "tf212", "tf214", "tf215")
NAMELESS = ("k305", "k321", "k350", "tf212", "tf214", "tf215")

Weights = dict[str, np.ndarray]


def read(path: Path, config: Any = None) -> bridge.Source:
    """In the same process, which is faster."""
    if config is None:
        return bridge.read(path, isolated=False)
    return keras_v3.read(open_file(path, isolated=False), config)


def held(model: Any, outer: str = "", seen: set[int] | None = None) -> Weights:
    """What a live model holds, by "layer/role" and in its order; a shared layer where it comes first."""
    found: Weights = {}
    seen = set() if seen is None else seen
    for layer in getattr(model, "layers", None) or parts(model):
        path = outer + layer.name
        if getattr(layer, "layers", None) or parts(layer):
            found |= held(layer, f"{path}/", seen)
        elif id(layer) not in seen:
            found |= {f"{path}/{weight.name}": numbers_of(weight) for weight in layer.weights}
        seen.add(id(layer))
    return found


def parts(layer: Any) -> list[Any]:
    """The layers in a wrapper, the cells in an RNN, the projections of an attention."""
    kind = type(layer).__name__
    if kind == "Bidirectional":
        return [layer.forward_layer, layer.backward_layer]
    if kind == "RNN":
        return list(getattr(layer.cell, "cells", ()))
    if kind in ("MultiHeadAttention", "GroupedQueryAttention"):
        return [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]
    return [layer.layer] if kind == "TimeDistributed" else []


def numbers_of(weight: Any) -> np.ndarray:
    value = weight.value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()


def assert_holds(source: bridge.Source, expected: Weights) -> None:
    """Every weight, bit for bit, and nothing else."""
    assert sorted(source) == sorted(expected)
    for key, array in expected.items():
        assert source[key].dtype == array.dtype, key
        assert source.shapes[key] == array.shape == source[key].shape, key
        assert source[key].tobytes() == np.ascontiguousarray(array).tobytes(), key


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model in one of Keras 3's formats."""

    def write(model: Any, form: str, name: str = "model", **options: Any) -> Path:
        path = tmp_path / f"{name}.{form}"
        with warnings.catch_warnings():  # Keras's, of its own variables
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
            if form == "keras":
                model.save(path, **options)
            elif form == "weights.json":
                model.save_weights(path, **{"max_shard_size": 1.0, **options})
            else:
                model.save_weights(path)
        return path

    return write


def without_names(path: Path) -> Path:
    """The same weights as Keras before 3.6 wrote them: the user's names are not in the file."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda _, each: each.attrs.pop("name", None) and None)
    return path


def weights_in(path: Path, folder: Path) -> Path:
    """The weights of a .keras as a file of their own."""
    target = folder / f"{path.stem}.weights.h5"
    with zipfile.ZipFile(path) as archive:
        target.write_bytes(archive.read("model.weights.h5"))
    return target


# Models: each takes Keras and gives a model in which no two layers are alike.


def plain(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = layers.Input((9, 7, 3))
    x = layers.Conv2D(4, (3, 2), name="block1_conv1")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(5, 1, use_bias=False)(x) + 1.0  # an operation, which is no layer
    x = keras.ops.relu(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(3, name="fc1")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([layers.Input((5,)), layers.Dense(4, name="a"), layers.ReLU(), layers.Dense(3)], name="s")


def nested(keras: Any) -> Any:
    """Three levels, and a layer that two of them share."""
    layers = keras.layers
    shared = layers.Conv2D(3, 1, name="shared")
    x = start = layers.Input((6, 5, 3))
    inner = keras.Model(start, layers.Conv2D(4, 2, name="conv")(shared(x)), name="inner")
    middle = keras.Sequential([layers.Input((6, 5, 3)), inner, layers.Conv2D(2, 1, name="conv")], name="middle")
    x = inputs = layers.Input((6, 5, 3))
    x = layers.Conv2D(3, 1, name="conv")(shared(x))
    return keras.Model(inputs, layers.Conv2D(2, 1)(middle(x)))


def recurrent(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = layers.Input((4,))
    x = layers.Embedding(11, 3, name="words")(x)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True, name="both"), name="bi")(x)
    x = layers.TimeDistributed(layers.Dense(3, name="d"), name="td")(x)
    x = layers.TimeDistributed(keras.Sequential([layers.Dense(5, name="e")], name="steps"), name="td_model")(x)
    x = layers.GRU(2, return_sequences=True, name="gru_a")(x)
    x = layers.GRU(3, return_sequences=True, reset_after=False, use_bias=False)(x)
    x = layers.RNN([layers.GRUCell(3), layers.LSTMCell(4)], return_sequences=True, name="stack")(x)
    x = layers.RNN(layers.SimpleRNNCell(2), return_sequences=True, name="own")(x)
    return keras.Model(inputs, layers.SimpleRNN(3)(x))


def kinds(keras: Any) -> Any:
    """One of every other class with weights."""
    layers = keras.layers
    x = inputs = layers.Input((8, 6, 4))
    x = layers.Normalization()(x)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="sep")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(4, 2)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.GroupNormalization(2)(x)
    x = layers.LayerNormalization(name="ln")(x)
    x = layers.LayerNormalization(center=False)(x)
    x = layers.RMSNormalization()(x)
    x = layers.ConvLSTM2D(2, 2, name="cl")(layers.Reshape((1, 6, 4, 4))(x))
    x = layers.Conv3D(3, (2, 1, 1))(layers.Reshape((5, 3, 2, 1))(x))
    x = layers.SeparableConv1D(4, 2)(layers.Reshape((12, 6))(x))
    x = layers.Conv1D(3, 2)(x)
    x = layers.Conv1DTranspose(4, 2)(x)
    x = layers.MultiHeadAttention(2, 3, name="mha")(x, x)
    x = layers.GroupQueryAttention(3, 4, 2)(x, x)
    return keras.Model(inputs, layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")(x))


def many(keras: Any) -> Any:
    """More than ten of a class: as text conv2d_10 comes before conv2d_2."""
    layers = keras.layers
    x = inputs = layers.Input((3, 3, 2))
    for index in range(12):
        x = layers.Conv2D(index % 3 + 1, 1, name=f"c{index}")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


MODELS = {builder.__name__: builder for builder in (plain, sequential, nested, recurrent, kinds, many)}


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


# Shards and folders


def test_a_layer_may_be_spread_over_shards(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers
    inner = [layers.Input((50,)), layers.Dense(40, name="a"), layers.Dense(45, name="b"), layers.Dense(30, name="c")]
    model = randomised(keras.Sequential(inner))
    path = save(model, "weights.json", max_shard_size=8200 / 1024**3)
    shards = sorted(each.name for each in path.parent.glob("*.h5"))
    listed = json.loads(path.read_text())["weight_map"]
    assert len(shards) > 2
    assert any(isinstance(each, list) for each in listed.values()), "no layer is in several shards"
    assert_holds(read(path), held(model))
    assert list(read(path)) == list(held(model))

    (path.parent / shards[1]).rename(path.parent / "gone")
    with pytest.raises(bridge.BridgeError, match=rf"lists {shards[1]}, which is not beside it"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../model_00000.weights.h5", "/etc/passwd", "sub/x.h5", "..", "", "a\\b", "C:x", None, 3, ["x"], "\0"]
)
def test_a_shard_that_is_not_beside_the_list_is_refused(name: Any, keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense/vars"] = name if isinstance(name, str) else [name]
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match="which is not one beside it"):
        read(path)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"weight_map": {}}', '{"weight_map": []}', "{", "\xff"])
def test_a_list_of_shards_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.weights.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(bridge.BridgeError, match=r"lists no weights|not readable JSON|is not a weights file"):
        read(path)


def test_a_list_of_shards_must_agree_with_them(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense_7/vars"] = "model_00000.weights.h5"
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match=r"dense_7/vars in model_00000.weights.h5, which does not hold it"):
        read(path)


def test_a_layer_in_two_shards_at_once_is_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    first = path.parent / "model_00000.weights.h5"
    shutil.copy(first, path.parent / "model_00001.weights.h5")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense/vars"] = ["model_00000.weights.h5", "model_00001.weights.h5"]
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match="is in several files"):
        read(path)


@pytest.fixture
def packed_shards(tmp_path: Path) -> Path:
    """Three files of 4 MiB of zeros each, packed to a few KiB."""
    weight_map = {}
    for number, layer in enumerate(("dense", "dense_1", "dense_2")):
        name = f"m_{number:05d}.weights.h5"
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset(f"layers/{layer}/vars/0", data=np.zeros((1024, 1024), "f4"), compression="gzip")
        weight_map[f"/layers/{layer}/vars"] = name
    (tmp_path / "m.weights.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path / "m.weights.json"


def test_what_shards_declare_is_limited_together(packed_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(bridge.read(packed_shards, isolated=False, largest=12 << 20)) == 3
    with pytest.raises(bridge.BridgeError, match=r"m\.weights\.json declares 12582912 bytes.* the limit of 12582911"):
        bridge.read(packed_shards, isolated=False, largest=(12 << 20) - 1)
    monkeypatch.setattr(reading, "ALWAYS", 5 << 20)
    with pytest.raises(bridge.BridgeError, match=r"m\.weights\.json declares 12582912 bytes of weights in [0-9]+ b"):
        bridge.read(packed_shards, isolated=False)


def test_an_unzipped_folder_holds_the_same(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    model = randomised(MODELS["plain"](keras))
    folder = tmp_path / "folder"
    with zipfile.ZipFile(save(model, "keras")) as archive:
        archive.extractall(folder)
    source = read(folder)
    assert_holds(source, held(model))
    assert source.format == "keras-v3-archive"
    assert source.keras_version == keras.__version__
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        (folder / name).rename(tmp_path / "away")
        with pytest.raises(bridge.BridgeError, match=f"holds no {name}"):
            keras_v3.read_folder(folder)
        (tmp_path / "away").rename(folder / name)


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
