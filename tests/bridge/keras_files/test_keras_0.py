"""Files of Keras 0, which hold numbers and no names, give what that Keras gave.

The fixtures were written by Keras 0.3.3, on TensorFlow and on Theano; each .npz holds an input and its output.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bridge
from bridge.hdf5 import open_file
from bridge.keras_files import keras_0

FIXTURES = Path(__file__).parents[1] / "fixtures"
Draw = Callable[..., np.ndarray]
Steps = list[tuple[str, nn.Module]]
RELU, POOL, FLATTEN = ("", nn.ReLU()), ("", nn.MaxPool2d(2)), ("", nn.Flatten())


@pytest.fixture
def wrote(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file as Keras 0 did: the arrays of every layer, in order."""

    def write(layers: Sequence[Sequence[np.ndarray]], name: str = "made.h5", **attributes: Any) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file.attrs["nb_layers"] = len(layers)
            for rank, arrays in enumerate(layers):
                group = file.create_group(f"layer_{rank}")
                group.attrs["nb_params"] = len(arrays)
                for number, array in enumerate(arrays):
                    group.create_dataset(f"param_{number}", data=array)
            file.attrs.update(attributes)
        return path

    return write


def vgg() -> Steps:
    """The model of make_keras0.py; its layers are called as their groups."""
    steps: Steps = []
    for places, widths in (((1, 3), (3, 4, 4)), ((6, 8), (4, 6, 6))):
        for place, channels, out in zip(places, widths, widths[1:], strict=False):
            steps += [(f"layer_{place}", nn.Conv2d(channels, out, 3, padding=1)), RELU]
        steps.append(POOL)
    steps += [FLATTEN, ("layer_11", nn.Linear(24, 7)), RELU, ("layer_13", nn.Linear(7, 5)), RELU]
    return [*steps, ("layer_15", nn.Linear(5, 3))]


def graph() -> Steps:
    return [("graph.0", nn.Conv2d(3, 4, 3)), RELU, FLATTEN, ("graph.1", nn.Linear(144, 3))]


def normalised() -> Steps:
    bn = nn.BatchNorm2d(4, eps=1e-12)  # the file has standard deviations, so that nothing was added to a variance
    return [
        ("layer_0", nn.Conv2d(2, 4, (3, 2), stride=2)),
        ("layer_1", bn),
        RELU,
        FLATTEN,
        ("layer_4", nn.Linear(36, 3)),
    ]


MODELS: dict[str, tuple[Callable[[], Steps], str | None]] = {  # what was built, and what has to be said
    "keras0_vgg_tf": (vgg, None),
    "keras0_vgg_th": (vgg, "tf"),
    "keras0_graph": (graph, None),
    "keras0_normalised_tf": (normalised, None),
    "keras0_normalised_th": (normalised, "tf"),
    "keras0_theano_normalised_tf": (normalised, "th"),
    "keras0_theano_normalised_th": (normalised, "th"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_of_keras_0_gives_what_keras_0_gave(name: str, chain: Any) -> None:
    steps, kernels = MODELS[name]
    recorded = np.load(FIXTURES / f"{name}.npz")
    module = chain(*steps())
    source = keras_0.read(open_file(FIXTURES / f"{name}_weights.h5"), kernels=kernels)
    plan = bridge.load(module, source, strict=True)
    assert len(plan.copied) == sum(not key.endswith("num_batches_tracked") for key in module.state_dict())
    with torch.inference_mode():
        y = module.eval()(torch.from_numpy(recorded["x"]).permute(0, 3, 1, 2)).softmax(1)
    np.testing.assert_allclose(y.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)


def test_a_file_of_channels_first_waits_for_a_word(chain: Any) -> None:
    source = bridge.read(FIXTURES / "keras0_vgg_th_weights.h5")
    assert source.undecided is not None
    with pytest.raises(bridge.BridgeError, match=r"keras0_vgg_th_weights\.h5: the file does not say whether Theano"):
        bridge.load(chain(*vgg()), source)


def test_it_says_who_wrote_it() -> None:
    source = bridge.read(FIXTURES / "keras0_graph_weights.h5")
    assert (source.format, source.keras_version, source.backend) == ("keras-0-weights", "0", None)
    assert list(source) == ["graph/0/kernel", "graph/0/bias", "graph/1/kernel", "graph/1/bias"]


# ------------------------------------------------------------------------------------ the published VGG


WIDTHS = {
    "vgg16": ((4, 4), (5, 5), (6, 6, 7), (7, 7, 8), (8, 8, 6)),
    "vgg19": ((4, 4), (5, 5), *[(6, 6, 7, 7)] * 2, (6,) * 4),
}
UNITS = {"fc1": 9, "fc2": 7, "predictions": 5}


def names_and_shapes(widths: Sequence[Sequence[int]], rows: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for block, outs in enumerate(widths, start=1):
        for conv, out in enumerate(outs, start=1):
            shapes[f"block{block}_conv{conv}"] = (3, 3, channels, out)
            channels = out
    values = channels * rows
    for name, out in UNITS.items():
        shapes[name] = (values, out)
        values = out
    return shapes


def published(weights: dict[str, tuple[np.ndarray, np.ndarray]], map_: tuple[int, int, int]) -> list[list[np.ndarray]]:
    """The layers of the published VGG with these weights of today's Keras: channels first, kernels turned around."""
    layers: list[list[np.ndarray]] = []
    height, width, channels = map_
    block = "block1"
    for name, (kernel, bias) in weights.items():
        if name.startswith("block"):
            layers += [[]] if not name.startswith(block) else []  # MaxPooling2D
            block = name[:6]
            kernel = kernel[::-1, ::-1].transpose(3, 2, 0, 1)
            layers.append([])  # ZeroPadding2D
        else:
            layers += [[], []] if name == "fc1" else [[]]  # MaxPooling2D and Flatten, or Dropout
            if name == "fc1":
                kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        layers.append([kernel, bias])
    return layers


@pytest.fixture
def weights(numbers: Draw) -> Callable[..., dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Weights of a narrow VGG as today's Keras has them."""

    def draw(network: str, rows: int = 4) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        shapes = names_and_shapes(WIDTHS[network], rows)
        found = {}
        for rank, (name, shape) in enumerate(shapes.items()):
            kernel = numbers(*shape, seed=rank) * np.float32((2 / np.prod(shape[:-1])) ** 0.5)
            found[name] = kernel, numbers(shape[-1], seed=100 + rank)
        return found

    return draw


@pytest.mark.parametrize(("network", "count"), [("vgg16", 37), ("vgg19", 43)])
def test_the_published_vgg_has_its_names_and_keras_s_arrays(network: str, count: int, weights: Any, wrote: Any) -> None:
    expected = weights(network)
    layers = published(expected, (2, 2, WIDTHS[network][-1][-1]))
    assert len(layers) == count
    if network == "vgg16":  # as published
        places = [rank for rank, arrays in enumerate(layers) if arrays]
        assert places == [1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29, 32, 34, 36]
    source = bridge.read(wrote(layers))
    assert source.undecided is None
    assert list(source.layers) == list(expected)
    for name, (kernel, bias) in expected.items():
        np.testing.assert_array_equal(source[f"{name}/kernel"], kernel, err_msg=name)
        np.testing.assert_array_equal(source[f"{name}/bias"], bias)
    assert source.notes[0] == (
        "Its layers are those of the VGG that was published for Keras 0, and have its names. "
        "Theano wrote that: pass kernels='tf' if another wrote this."
    )


def test_the_published_vgg_computes_what_keras_computes(
    keras: Any, chain: Any, weights: Any, wrote: Any, images: Any, assert_same: Any
) -> None:
    values = weights("vgg16")
    layers = [keras.layers.Input((64, 64, 3))]
    steps: Steps = []
    channels = 3
    for name, (kernel, _) in values.items():
        if name.startswith("block"):
            layers.append(keras.layers.Conv2D(kernel.shape[3], 3, padding="same", activation="relu", name=name))
            steps += [(name, nn.Conv2d(channels, kernel.shape[3], 3, padding=1)), RELU]
            channels = kernel.shape[3]
            if name in ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"):
                layers.append(keras.layers.MaxPooling2D())
                steps.append(POOL)
        else:
            layers += [keras.layers.Flatten()] if name == "fc1" else []
            layers.append(keras.layers.Dense(kernel.shape[1], name=name))
            steps += [FLATTEN] if name == "fc1" else []
            steps.append((name, nn.Linear(*kernel.shape)))
    model = keras.Sequential(layers)
    for name, arrays in values.items():
        model.get_layer(name).set_weights(list(arrays))
    module = chain(*steps)
    bridge.load(module, wrote(published(values, (2, 2, 6))), strict=True)
    assert_same(model, module, images(2, 64, 64, 3))


@pytest.mark.parametrize(("layers", "names"), [(31, 13), (33, 14), (35, 15)])
def test_a_vgg_without_its_last_layers_has_the_names_of_the_rest(
    layers: int, names: int, weights: Any, wrote: Any
) -> None:
    expected = weights("vgg16")
    source = bridge.read(wrote(published(expected, (2, 2, 6))[:layers]))
    assert list(source.layers) == list(expected)[:names]
    assert source.undecided is None


def test_a_vgg_that_theano_did_not_write_is_taken_as_it_is(weights: Any, wrote: Any) -> None:
    expected = weights("vgg16")
    source = bridge.read(wrote(published(expected, (2, 2, 6))), kernels="tf")
    np.testing.assert_array_equal(source["block3_conv1/kernel"], expected["block3_conv1"][0][::-1, ::-1])
    assert source.notes[0] == "Its layers are those of the VGG that was published for Keras 0, and have its names."


def test_another_network_of_as_many_layers_keeps_the_names_of_its_groups(weights: Any, wrote: Any) -> None:
    layers = published(weights("vgg16"), (2, 2, 6))
    layers[4:4] = [layers.pop(3)]  # a convolution where the pooling was
    source = bridge.read(wrote(layers))
    assert list(source.layers)[:3] == ["layer_1", "layer_4", "layer_6"]
    assert source.undecided is not None


# --------------------------------------------------------------------------------------------- by hand


GRU, LSTM = [(3, 4), (4, 4), (4,)] * 3, [(3, 4), (4, 4), (4,)] * 4
ROLES: list[tuple[str, list[tuple[int, ...]], list[str]]] = [
    ("convolution", [(3, 3, 2, 5), (5,)], ["kernel", "bias"]),
    ("convolution, channels first", [(5, 2, 3, 3), (5,)], ["kernel", "bias"]),
    ("convolution over three axes", [(5, 2, 3, 3, 3), (5,)], ["kernel", "bias"]),
    ("dense", [(4, 5), (5,)], ["kernel", "bias"]),
    ("maxout", [(3, 4, 5), (3, 5)], ["kernel", "bias"]),
    ("normalisation", [(4,)] * 4, ["gamma", "beta", "moving_mean", "moving_variance"]),
    ("embedding", [(9, 4)], ["embeddings"]),
    ("prelu of a row", [(4,)], ["alpha"]),
    ("prelu of a map", [(4, 5, 6)], ["alpha"]),
    ("simple recurrent", [(3, 4), (4, 4), (4,)], ["kernel", "recurrent_kernel", "bias"]),
    ("gru", GRU, [f"{letter}_{gate}" for gate in "zrh" for letter in "WUb"]),
    ("lstm", LSTM, [f"{letter}_{gate}" for gate in "icfo" for letter in "WUb"]),
    ("two recurrent ones that could be others", GRU + GRU, [f"param_{number}" for number in range(18)]),
    ("unknown", [(2, 3, 4, 5)], ["param_0"]),
    ("two dense layers", [(4, 5), (5,), (5, 2), (2,)], ["0/kernel", "0/bias", "1/kernel", "1/bias"]),
    ("an embedding and a dense layer", [(9, 4), (4, 5), (5,)], ["0/embeddings", "1/kernel", "1/bias"]),
    (
        "a convolution and its normalisation",
        [(3, 3, 2, 4), (4,), (4,), (4,), (4,), (4,)],
        ["0/kernel", "0/bias", "1/gamma", "1/beta", "1/moving_mean", "1/moving_variance"],
    ),
    ("nothing", [], []),
]


@pytest.mark.parametrize(("shapes", "roles"), [each[1:] for each in ROLES], ids=[each[0] for each in ROLES])
def test_shapes_tell_the_roles(shapes: list[tuple[int, ...]], roles: list[str]) -> None:
    assert keras_0.keys(shapes) == roles


DAMAGED: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "a layer too few": (lambda file: file.pop("layer_0"), "lists layer_0 but does not hold it"),
    "an array too few": (lambda file: file["layer_1"].pop("param_1"), "layer_1 lists param_1 but does not hold it"),
    "a count that is none": (
        lambda file: file.attrs.update(nb_layers="two"),
        "says nb_layers='two', which is no number",
    ),
    "a count beyond all": (lambda file: file.attrs.update(nb_layers=2**40), "lists layer_2 but does not hold it"),
    "no arrays": (lambda file: file.attrs.update(nb_layers=1), "is a Keras file without any weights"),
    "no layers": (lambda file: file.attrs.update(nb_layers=-3), "is a Keras file without any weights"),
    "no count of arrays": (lambda file: file["layer_1"].attrs.pop("nb_params"), "says nb_params=None"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_that_is_not_whole_is_refused(kind: str, wrote: Any, numbers: Draw) -> None:
    change, message = DAMAGED[kind]
    path = wrote([[], [numbers(4, 5), numbers(5)]])
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(bridge.BridgeError, match=message) as refusal:
        bridge.read(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_options_that_contradict_the_file_are_refused_by_its_name(wrote: Any, numbers: Draw) -> None:
    path = wrote([[numbers(5, 2, 3, 3), numbers(5)]])
    with pytest.raises(
        bridge.BridgeError, match=r"made\.h5: dim_ordering is not 'tf' but 'th': layer_0 has the kernel"
    ):
        bridge.read(path, dim_ordering="tf")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5).map(tuple), max_size=14))
def test_every_array_has_a_name_of_its_own(shapes: list[tuple[int, ...]]) -> None:
    assert len(set(keras_0.keys(shapes))) == len(shapes)
