"""What a Keras HDF5 file holds is read whole, under the right names, whoever wrote it and whatever it is called."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import bridge

Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


def held(source: bridge.Source) -> dict[str, np.ndarray]:
    return {key: source[key] for key in source}


def of_keras(model: Any) -> dict[str, np.ndarray]:
    """What the layers of a Keras model hold, those of nested models under "outer/inner"."""
    found: dict[str, np.ndarray] = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= {f"{layer.name}/{key}": value for key, value in of_keras(layer).items()}
        else:
            found |= {f"{layer.name}/{w.name}": w.value.detach().numpy() for w in layer.weights}
    return found


def assert_holds(source: bridge.Source, expected: dict[str, np.ndarray], ordered: bool = True) -> None:
    if ordered:
        assert list(source) == list(expected)
    assert source.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(source[key], array, err_msg=key)


def functional(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = layers.Input((8, 6, 3))
    x = layers.Conv2D(4, (3, 2), activation="relu", name="conv_in")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(5, 2, use_bias=False)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(x), name="outer")


def sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 6, 3)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def nested(keras: Any) -> Any:
    """Two inner models of each kind; all four have a layer "conv"."""
    layers = keras.layers

    def inner(name: str, given: int) -> Any:
        x = inputs = layers.Input((None, None, given))
        x = layers.BatchNormalization(name="bn")(layers.Conv2D(given + 1, 3, name="conv")(x))
        return keras.Model(inputs, layers.Conv2D(given + 2, 1, name="conv_b")(x), name=name)

    def row(name: str) -> Any:
        return keras.Sequential([layers.Conv2D(3, 3, name="conv"), layers.BatchNormalization(name="bn")], name=name)

    x = inputs = layers.Input((16, 16, 3))
    for part in (inner("encoder", 3), row("middle"), inner("decoder", 3), row("tail")):
        x = part(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole model", "weights only"])
@pytest.mark.parametrize("build", [functional, sequential, nested])
def test_every_weight_of_a_model_is_read_under_its_layer_and_role(
    build: Callable[[Any], Any], weights_only: bool, keras: Any, randomised: Any, saved: Any
) -> None:
    model = randomised(build(keras))
    source = bridge.read(saved(model, weights_only=weights_only))
    assert_holds(source, of_keras(model), ordered=build is not nested)
    layers = [layer.name for layer in model.layers if layer.weights]
    assert list(dict.fromkeys(key.split("/")[0] for key in source)) == layers
    assert source.layout == "keras"
    assert source.keras_version == keras.__version__
    assert source.backend == "torch"
    assert source.format == ("keras-h5-weights" if weights_only else "keras-h5-model")
    if weights_only:
        assert source.architecture is None
        assert set(source.kinds.values()) <= {"Conv2DTranspose", "Functional"}  # which names tell, and no shape
    else:
        assert source.architecture is not None
        assert source.architecture["class_name"] == type(model).__name__
        assert source.kinds[next(iter(source.layers))] in ("Conv2D", "Functional", "BatchNormalization")


def test_the_architecture_says_the_class_of_every_layer(keras: Any, saved: Any) -> None:
    kinds = bridge.read(saved(nested(keras))).kinds
    assert kinds["encoder"] == "Functional"
    assert kinds["middle"] == "Sequential"
    assert {kinds[f"{part}/conv"] for part in ("encoder", "middle", "decoder", "tail")} == {"Conv2D"}
    assert kinds["encoder/bn"] == "BatchNormalization"
    assert kinds["head"] == "Dense"


def test_inner_layers_called_like_their_model_keep_their_names(keras: Any, randomised: Any, saved: Any) -> None:
    layers = keras.layers
    x = inputs = layers.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="block")(x)
    x = layers.Conv2D(4, 1, name="block_1")(x)
    inner = keras.Model(inputs, layers.Conv2D(5, 1, name="block_2")(x), name="block")
    inputs = layers.Input((4, 4, 2))
    model = randomised(keras.Model(inputs, inner(inputs)))
    assert_holds(bridge.read(saved(model)), of_keras(model))


def test_a_model_within_a_model_within_a_model_is_told_by_the_architecture(
    keras: Any, randomised: Any, saved: Any
) -> None:
    layers = keras.layers

    def within(inner: Any, name: str, own: str) -> Any:
        inputs = layers.Input((4, 4, 2))
        return keras.Model(inputs, inner(layers.Conv2D(2, 1, name=own)(inputs)), name=name)

    model = layers.Conv2D(2, 1, name="deepest")
    for name, own in (("inner", "low"), ("middle", "mid"), ("outer", "high"), ("all", "first")):
        model = within(model, name, own)
    randomised(model)
    assert_holds(bridge.read(saved(model)), of_keras(model), ordered=False)


def test_layers_of_several_parts_are_told_apart(keras: Any, randomised: Any, saved: Any) -> None:
    layers = keras.layers
    x = inputs = layers.Input((5, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(2), name="each")(x)
    model = randomised(keras.Model(inputs, layers.GRU(2, name="last")(x)))
    source = bridge.read(saved(model))
    assert len(source) == len(model.weights)
    assert [source[key].shape for key in source] == [tuple(weight.shape) for weight in model.weights]
    assert list(source)[:2] == ["both/forward_lstm/kernel", "both/forward_lstm/recurrent_kernel"]
    assert list(source)[-3:] == ["last/kernel", "last/recurrent_kernel", "last/bias"]


SPELLINGS = {
    "Keras 1": ("conv_W:0", "conv_b:0"),
    "Keras 1, second model of a graph": ("conv_W_1:0", "conv_b_1:0"),
    "Keras 1 on Theano": ("conv_W", "conv_b"),
    "Keras 1 without names": ("param_0", "param_1"),
    "Keras 2": ("conv/kernel:0", "conv/bias:0"),
    "Keras 2, second model of a graph": ("conv_2/kernel:0", "conv_2/bias:0"),
    "Keras 2, renamed layer": ("old_name/kernel:0", "old_name/bias:0"),
    "tf.keras, subclassed": ("sub/conv/kernel:0", "sub/conv/bias:0"),
    "tf.keras, numbered variables": ("conv/kernel_1:0", "conv/bias_1:0"),
    "Keras 3.0": ("kernel", "bias"),
    "Keras 3.3": ("conv/kernel", "conv/bias"),
    "Keras 3.3, Sequential": ("seq/conv/kernel", "seq/conv/bias"),
}


@pytest.mark.parametrize("text", [str.encode, str], ids=["bytes", "str"])
@pytest.mark.parametrize("inside", ["/", "model_weights"])
@pytest.mark.parametrize(("kernel", "bias"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_convolution_is_a_kernel_and_a_bias_however_it_is_spelled(
    kernel: str, bias: str, inside: str, text: Callable[[str], Any], written: Write, numbers: Draw
) -> None:
    arrays = {kernel: numbers(3, 3, 2, 4), bias: numbers(4)}
    source = bridge.read(written({"input": {}, "conv": arrays, "flatten": {}}, inside=inside, text=text))
    assert_holds(source, {"conv/kernel": arrays[kernel], "conv/bias": arrays[bias]})


NORMALISATIONS = {
    "Keras 1": ("gamma:0", "beta:0", "running_mean:0", "running_std:0"),
    "Keras 1 without names": ("param_0", "param_1", "param_2", "param_3"),
    "Keras 2": ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0"),
    "Keras 3": ("gamma", "beta", "moving_mean", "moving_variance"),
}


@pytest.mark.parametrize(("writer", "roles"), NORMALISATIONS.items(), ids=NORMALISATIONS.keys())
def test_a_normalisation_has_four_roles_however_they_are_spelled(
    writer: str, roles: tuple[str, ...], written: Write, numbers: Draw
) -> None:
    arrays = [numbers(4, seed=seed) for seed in range(4)]
    between = {"Keras 1": "bn_", "Keras 1 without names": "", "Keras 2": "bn/", "Keras 3": "bn/"}[writer]
    source = bridge.read(written({"bn": {between + role: a for role, a in zip(roles, arrays, strict=True)}}))
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    assert_holds(source, {f"bn/{name}": array for name, array in zip(names, arrays, strict=True)})


def test_inner_layers_of_a_nested_model_are_grouped_by_name_and_not_by_place(written: Write, numbers: Draw) -> None:
    weights = ("a/kernel:0", "b/gamma:0", "b/beta:0", "c/kernel:0", "b/moving_mean:0", "b/moving_variance:0")
    arrays = {name: numbers(3, seed=seed) for seed, name in enumerate(weights)}
    source = bridge.read(written({"encoder": arrays, "head": {"head/kernel:0": numbers(3, 2)}}))
    for name, array in arrays.items():
        np.testing.assert_array_equal(source[f"encoder/{name.removesuffix(':0')}"], array)
    assert list(source.layers) == ["encoder/a", "encoder/b", "encoder/c", "head"]
    assert list(source.layers["encoder/b"]) == ["gamma", "beta", "moving_mean", "moving_variance"]


def test_a_layer_name_may_hold_slashes(written: Write, numbers: Draw) -> None:
    arrays = {"enc/block/kernel:0": numbers(3, 2), "enc/block/bias:0": numbers(2)}
    source = bridge.read(written({"enc/block": arrays}))
    assert list(source) == ["enc/block/kernel", "enc/block/bias"]


def test_the_order_is_that_of_the_model_and_not_of_the_alphabet(written: Write, numbers: Draw) -> None:
    names = ["zeta", "conv2d_10", "conv2d_9", "conv2d_2", "alpha"]
    source = bridge.read(written({name: {f"{name}/kernel:0": numbers(2, 2)} for name in names}))
    assert list(source.layers) == names


def test_lists_of_names_split_over_attributes_are_joined(written: Write, numbers: Draw) -> None:
    path = written({name: {"kernel:0": numbers(2, 3), "bias:0": numbers(3)} for name in ("a", "b", "c")})
    with h5py.File(path, "r+") as file:
        for owner, attribute in ((file, "layer_names"), (file["b"], "weight_names")):
            for index, value in enumerate(owner.attrs[attribute]):
                owner.attrs[f"{attribute}{index}"] = [value]
            del owner.attrs[attribute]
    assert list(bridge.read(path)) == [f"{layer}/{role}" for layer in "abc" for role in ("kernel", "bias")]


def test_a_layer_without_weights_may_say_so_with_an_empty_float_list(written: Write, numbers: Draw) -> None:
    path = written({"pool": {}, "conv": {"kernel": numbers(1, 1, 2, 2)}})
    with h5py.File(path) as file:
        assert file["pool"].attrs["weight_names"].dtype == np.float64  # as h5py wrote Keras's empty list
    assert list(bridge.read(path)) == ["conv/kernel"]


def test_the_backend_and_the_version_are_read_from_either_level(written: Write, numbers: Draw) -> None:
    weights = {"dense": {"kernel": numbers(2, 2)}}
    inner = bridge.read(written(weights, inside="model_weights", keras_version="2.3.1", backend=b"cntk"))
    assert (inner.keras_version, inner.backend) == ("2.3.1", "cntk")
    path = written(weights, inside="model_weights")
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", "tensorflow"
    outer = bridge.read(path)
    assert (outer.keras_version, outer.backend) == ("2.2.4", "tensorflow")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f2", "<f8", ">f8"])
def test_any_float_and_byte_order_gives_the_same_numbers(dtype: str, written: Write, numbers: Draw) -> None:
    kernel = numbers(3, 3, 2, 4).astype(dtype)
    source = bridge.read(written({"conv": {"kernel": kernel}}))
    np.testing.assert_array_equal(source["conv/kernel"], kernel)
    assert source["conv/kernel"].dtype.isnative
    assert source.stored["conv/kernel"].dtype == kernel.dtype.name


def test_bfloat16_is_widened_to_float32(written: Write, numbers: Draw) -> None:
    kernel = numbers(4, 3)
    bits = (kernel.view(np.uint32) >> 16).astype(np.uint16)
    source = bridge.read(written({"dense": {"kernel": bits.view("V2")}}))
    np.testing.assert_array_equal(source["dense/kernel"], (bits.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_allclose(source["dense/kernel"], kernel, rtol=1e-2)
    assert source.stored["dense/kernel"].dtype == "bfloat16"


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "V2"])
def test_a_repacked_file_is_read_like_the_original(compression: str, dtype: str, written: Write, numbers: Draw) -> None:
    kernel = numbers(3, 3, 2, 4)
    stored = (kernel.view("<u4") >> 16).astype("<u2").view("V2") if dtype == "V2" else kernel.astype(dtype)
    plain = bridge.read(written({"conv": {"kernel": stored}}, name="plain.h5"))
    packed = bridge.read(written({"conv": {"kernel": stored}}, name="packed.h5", compression=compression))
    np.testing.assert_array_equal(packed["conv/kernel"], plain["conv/kernel"])
    assert packed["conv/kernel"].dtype == plain["conv/kernel"].dtype


def test_theano_turned_its_kernels_around_and_the_reader_turns_them_back(written: Write, numbers: Draw) -> None:
    kernel, dense = numbers(3, 2, 4, 5), numbers(4, 5)
    weights = {"conv": {"conv/kernel:0": kernel}, "dense": {"dense/kernel:0": dense}}
    source = bridge.read(written(weights, backend="theano", keras_version="2.1.6"))
    np.testing.assert_array_equal(source["conv/kernel"], kernel[::-1, ::-1])
    np.testing.assert_array_equal(source["dense/kernel"], dense)


def test_keras_1_stored_a_transposed_convolution_the_other_way_round(written: Write, numbers: Draw) -> None:
    kernel = numbers(2, 2, 4, 3)  # height, width, in, out
    source = bridge.read(written({"deconvolution2d_1": {"deconvolution2d_1_W:0": kernel}}))
    np.testing.assert_array_equal(source["deconvolution2d_1/kernel"], kernel.transpose(0, 1, 3, 2))
    newer = bridge.read(written({"deconvolution2d_1": {"kernel:0": kernel}}, keras_version="2.0.0"))
    np.testing.assert_array_equal(newer["deconvolution2d_1/kernel"], kernel)


def test_shapes_are_known_before_any_number_is_read(written: Write, numbers: Draw) -> None:
    path = written({"dense": {"kernel": numbers(4, 3), "bias": numbers(3)}})
    source = bridge.read(path)
    with h5py.File(path, "r+") as file:
        file["dense/bias"][:] = 7.0
    assert source.shapes == {"dense/kernel": (4, 3), "dense/bias": (3,)}
    np.testing.assert_array_equal(source["dense/bias"], [7.0, 7.0, 7.0])  # fetched when asked for


def test_what_is_fetched_may_be_changed_and_the_file_stays(written: Write, numbers: Draw) -> None:
    path = written({"dense": {"kernel": numbers(4, 3)}})
    before = path.read_bytes()
    array = bridge.read(path)["dense/kernel"]
    array += 1
    assert path.read_bytes() == before
    np.testing.assert_array_equal(bridge.read(path)["dense/kernel"], numbers(4, 3))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.keras", "weights"])
def test_hdf5_is_known_by_its_content_under_any_name(name: str, written: Write, numbers: Draw) -> None:
    source = bridge.read(written({"dense": {"kernel": numbers(4, 3)}}, name=name))
    assert source.format == "keras-h5-weights"
    assert list(source) == ["dense/kernel"]


def test_the_genuine_vgg16_is_read_whole(vgg16_file: Path) -> None:
    source = bridge.read(vgg16_file)
    depths = (2, 2, 3, 3, 3)
    convolutions = [f"block{block}_conv{conv}" for block, d in enumerate(depths, 1) for conv in range(1, d + 1)]
    assert list(source.layers) == convolutions
    assert sum(array.size for array in held(source).values()) == 14_714_688
    assert source.keras_version == "1"
    assert source.preprocessing is not None
    assert source.preprocessing.order == "BGR"
    assert source.preprocessing.mean == (103.939, 116.779, 123.68)


def test_the_preprocessing_of_other_weights_is_not_guessed(written: Write, numbers: Draw) -> None:
    assert bridge.read(written({"block1_conv1": {"kernel": numbers(3, 3, 3, 64)}})).preprocessing is None


REFUSED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a soft link": (lambda f: f["dense"].__setitem__("kernel", h5py.SoftLink("/other")), "a link to another place"),
    "an external link": (
        lambda f: f["dense"].__setitem__("kernel", h5py.ExternalLink("/etc/hostname", "/x")),
        "a link to another place",
    ),
    "external storage": (
        lambda f: f["dense"].create_dataset("kernel", (2,), "f4", external=[("/etc/hostname", 0, 8)]),
        "in another file",
    ),
    "objects": (lambda f: f["dense"].create_dataset("kernel", data=["text"]), "not numbers"),
    "compounds": (lambda f: f["dense"].create_dataset("kernel", data=np.zeros(2, "f4,f4")), "not numbers"),
    "complex numbers": (lambda f: f["dense"].create_dataset("kernel", data=np.zeros(2, "c8")), "not numbers"),
    "long doubles": (lambda f: f["dense"].create_dataset("kernel", data=np.zeros(2, np.longdouble)), "not numbers"),
    "nothing at all": (lambda f: f["dense"].create_dataset("kernel", data=h5py.Empty("f4")), "not numbers"),
    "a folder": (lambda f: f["dense"].create_group("kernel"), "does not hold it"),
    "no data": (lambda f: f["dense"].create_dataset("kernel", (3,), "f4", chunks=(1,)), "stores none"),
    "much more than it stores": (
        lambda f: f["dense"].create_dataset("kernel", (2**30, 2**10), "f4", chunks=(64, 64)).__setitem__((0, 0), 1.0),
        "more than",
    ),
    "an allocation never made": (lambda f: f["dense"].create_dataset("kernel", (2**34,), "f4"), "stores none"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_weight_that_no_honest_file_has_is_refused(
    make: Callable[[h5py.File], object], message: str, written: Write, numbers: Draw
) -> None:
    path = written({"dense": {"kernel": numbers(2)}})
    with h5py.File(path, "r+") as file:
        file["other"] = numbers(2)
        del file["dense/kernel"]
        make(file)
    with pytest.raises(bridge.BridgeError, match=message) as caught:
        bridge.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["/secret/kernel", "../secret/kernel", "./kernel", ""])
def test_a_weight_name_that_leaves_its_layer_is_refused(name: str, written: Write, numbers: Draw) -> None:
    path = written({"dense": {"kernel": numbers(2)}, "secret": {"kernel": numbers(2)}})
    with h5py.File(path, "r+") as file:
        file["dense"].attrs["weight_names"] = [name]
    with pytest.raises(bridge.BridgeError, match="outside its layer"):
        bridge.read(path)


@pytest.mark.parametrize("link", [h5py.SoftLink("/elsewhere"), h5py.ExternalLink("other.h5", "/elsewhere")])
def test_weights_behind_a_link_are_refused(link: Any, written: Write, numbers: Draw) -> None:
    written({"dense": {"kernel": numbers(2)}}, name="other.h5", inside="elsewhere")
    path = written({"dense": {"kernel": numbers(2)}}, inside="elsewhere")
    with h5py.File(path, "r+") as file:
        file["model_weights"] = link
    with pytest.raises(bridge.BridgeError, match="holds 'model_weights', a link to another place"):
        bridge.read(path)


def test_two_weights_of_one_name_are_refused(written: Write, numbers: Draw) -> None:
    path = written({"conv": {"conv/kernel:0": numbers(2), "conv/kernel_1:0": numbers(2)}})
    with pytest.raises(bridge.BridgeError, match="two weights are both called conv/kernel"):
        bridge.read(path)


def test_a_layer_that_is_listed_and_not_there_is_named(written: Write, numbers: Draw) -> None:
    path = written({"conv": {"kernel": numbers(2)}})
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = ["conv", "gone"]
    with pytest.raises(bridge.BridgeError, match="lists the layer 'gone' but does not hold it"):
        bridge.read(path)


def test_a_file_without_any_weights_says_so(written: Write) -> None:
    with pytest.raises(bridge.BridgeError, match="without any weights: its layers are"):
        bridge.read(written({"input": {}, "pool": {}}))


def test_a_configuration_that_is_no_json_is_refused(written: Write, numbers: Draw) -> None:
    for broken in ("{", "[" * 100_000, b"\xff\xfe"):
        path = written({"d": {"kernel": numbers(2)}}, inside="model_weights", model_config=broken)
        with pytest.raises(bridge.BridgeError, match=r"model_config is not readable JSON|is damaged"):
            bridge.read(path)


def test_a_configuration_is_data_and_runs_nothing(written: Write, numbers: Draw) -> None:
    config = {"class_name": "Lambda", "config": {"layers": [{"class_name": "os.system", "config": {"name": "d"}}]}}
    path = written({"d": {"kernel": numbers(2)}}, inside="model_weights", model_config=json.dumps(config))
    source = bridge.read(path)
    assert source.kinds == {"d": "os.system"}
    assert source.architecture == config


def test_a_layer_may_be_called_as_keras_calls_the_weights_of_a_whole_model(
    keras: Any, randomised: Any, saved: Any
) -> None:
    layers = keras.layers
    steps = [layers.Dense(3, name="model_weights"), layers.Dense(2, name="head")]
    model = randomised(keras.Sequential([layers.Input((4,)), *steps]))
    for weights_only in (True, False):
        assert list(bridge.read(saved(model, weights_only=weights_only)).layers) == ["model_weights", "head"]
