"""What Keras 0, 1 and 2 and Theano stored in their own way computes, as it is given here, what they computed.

The fixtures are files that old Keras really wrote, on TensorFlow and on Theano; each .npz holds an input and what
became of it.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import bridge
from bridge import old_arrays
from bridge.source import Stored, in_memory
from bridge.spelling import KERAS_1_ROLES

FIXTURES = Path(__file__).parent / "fixtures"
Arrays = Mapping[str, np.ndarray]
Draw = Callable[..., np.ndarray]


def layers_of(stored: Mapping[str, Stored]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each layer by role; those of two directions or of stacked cells stand under their outer layer."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in stored.items():
        layer, _, rest = key.partition("/")
        found.setdefault(layer, {})[rest] = tensor.fetch()
    return found


def softmax(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).softmax(-1).numpy()


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0, stride: Any = 1) -> np.ndarray:
    """A convolution over any number of axes, channels last, without padding, as Keras 3 defines it."""
    compute = (F.conv1d, F.conv2d, F.conv3d)[kernel.ndim - 3]
    window = range(kernel.ndim - 2)
    weight = np.ascontiguousarray(kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *window))
    given = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    return np.moveaxis(compute(given, torch.from_numpy(weight), stride=stride).numpy(), 1, -1) + bias


def depthwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    each = [convolved(x[..., c : c + 1], kernel[:, :, c : c + 1]) for c in range(x.shape[-1])]
    return np.concatenate(each, -1)


def transposed(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """A transposed convolution as Keras 3 defines it: every input number sets its window of the output."""
    height, width, out, _ = kernel.shape
    count, rows, columns, _ = x.shape
    y = np.zeros((count, (rows - 1) * stride + height, (columns - 1) * stride + width, out), np.float64)
    for row, column in itertools.product(range(rows), range(columns)):
        patch = np.einsum("ni,hwoi->nhwo", x[:, row, column], kernel)
        y[:, row * stride : row * stride + height, column * stride : column * stride + width] += patch
    return (y + bias).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(0.2 * x + 0.5, 0, 1)


def step(x: np.ndarray, state: list[np.ndarray], cell: Arrays, gate: Any) -> list[np.ndarray]:
    """One step of a recurrent layer, from the equations of Keras; its first state is its output."""
    kernel, recurrent, bias = cell["kernel"], cell["recurrent_kernel"], cell["bias"]
    h, units = state[0], recurrent.shape[0]
    width = recurrent.shape[1] // units
    if width == 1:
        return [np.tanh(x @ kernel + h @ recurrent + bias)]
    if width == 4:
        i, f, c, o = np.split(x @ kernel + h @ recurrent + bias, 4, 1)
        memory = gate(f) * state[1] + gate(i) * np.tanh(c)
        return [gate(o) * np.tanh(memory), memory]
    own, other = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    xz, xr, xh = np.split(x @ kernel + own, 3, 1)
    uz, ur, uh = np.split(recurrent, 3, 1)
    bz, br, bh = np.split(other, 3)
    z, r = gate(xz + h @ uz + bz), gate(xr + h @ ur + br)
    new = np.tanh(xh + r * (h @ uh + bh)) if bias.ndim == 2 else np.tanh(xh + (r * h) @ uh)
    return [z * h + (1 - z) * new]


def walked(x: np.ndarray, cells: list[Arrays], gate: Any) -> np.ndarray:
    """All outputs of a recurrent layer, or of cells one upon the other."""
    states = [[np.zeros((len(x), cell["recurrent_kernel"].shape[0]), np.float32)] * 2 for cell in cells]
    outputs = []
    for time in range(x.shape[1]):
        given = x[:, time]
        for rank, cell in enumerate(cells):
            states[rank] = step(given, states[rank], cell, gate)
            given = states[rank][0]
        outputs.append(given)
    return np.stack(outputs, 1)


def parts(layer: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """The cells or directions inside a layer."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path, array in layer.items():
        found.setdefault(path.rpartition("/")[0], {})[path.rpartition("/")[2]] = array
    return found


def sequence(x: np.ndarray, layer: Arrays, gate: Any) -> np.ndarray:
    """What one layer makes of a sequence; which layer it is, its arrays tell."""
    inner = parts(layer)
    if any(name.startswith("backward") for name in inner):
        forward, backward = inner.values()
        return np.concatenate([walked(x, [forward], gate), walked(x[:, ::-1], [backward], gate)[:, ::-1]], -1)
    if "embeddings" in layer:
        return layer["embeddings"][x.astype(int)]
    if "recurrent_kernel" in inner[next(iter(inner))]:
        return walked(x, list(inner.values()), gate)
    if layer["kernel"].ndim == 3:
        return convolved(x, layer["kernel"], layer["bias"])
    return x @ layer["kernel"] + layer["bias"]


RECURRENT = {
    "keras0_recurrent": hard_sigmoid,
    "keras0_theano_recurrent": hard_sigmoid,
    "keras1_recurrent": hard_sigmoid,
    "keras1_0_8_recurrent": hard_sigmoid,
    "keras1_theano_recurrent": hard_sigmoid,
    "keras2_0_9_recurrent": hard_sigmoid,
    "keras2_3_1_recurrent": sigmoid,
    "keras2_3_1_cudnn": sigmoid,
}
FILES = sorted(path.stem for name in RECURRENT for path in FIXTURES.glob(f"{name}_*.h5"))


@pytest.mark.parametrize("file", FILES)
def test_recurrent_layers_give_what_the_old_keras_gave(file: str) -> None:
    name = file.rpartition("_")[0]
    recorded = np.load(FIXTURES / f"{name}.npz")
    source = bridge.read(FIXTURES / f"{file}.h5", kernels="th" if "theano" in file else None)
    *inner, head = layers_of(source.stored).values()
    x = recorded["x"]
    for layer in inner:
        x = sequence(x, layer, RECURRENT[name])
    x = x.reshape(len(x), -1) if "cudnn" in name else x[:, -1]
    np.testing.assert_allclose(softmax(x @ head["kernel"] + head["bias"]), recorded["y"], rtol=1e-4, atol=1e-5)


def test_recurrent_layers_have_the_names_and_classes_of_today() -> None:
    source = bridge.read(FIXTURES / "keras1_recurrent_weights.h5")
    assert source.layers == {
        "embedding_1": {"embeddings": (9, 4)},
        "convolution1d_1": {"kernel": (3, 4, 5), "bias": (5,)},
        "gru_1": {"kernel": (5, 18), "recurrent_kernel": (6, 18), "bias": (18,)},
        "bidirectional_1/forward_lstm_1": {"kernel": (6, 16), "recurrent_kernel": (4, 16), "bias": (16,)},
        "bidirectional_1/backward_lstm_1": {"kernel": (6, 16), "recurrent_kernel": (4, 16), "bias": (16,)},
        "timedistributed_1": {"kernel": (8, 5), "bias": (5,)},
        "lstm_2": {"kernel": (5, 16), "recurrent_kernel": (4, 16), "bias": (16,)},
        "simplernn_1": {"kernel": (4, 5), "recurrent_kernel": (5, 5), "bias": (5,)},
        "dense_2": {"kernel": (5, 3), "bias": (3,)},
    }
    assert source.kinds == {
        "embedding_1": "Embedding",
        "convolution1d_1": "Conv1D",
        "gru_1": "GRU",
        "bidirectional_1/forward_lstm_1": "LSTM",
        "bidirectional_1/backward_lstm_1": "LSTM",
        "lstm_2": "LSTM",
        "simplernn_1": "SimpleRNN",
    }


@pytest.mark.parametrize("file", ["weights", "model"])
def test_cudnn_layers_are_plain_ones_that_say_so(file: str) -> None:
    source = bridge.read(FIXTURES / f"keras2_3_1_cudnn_{file}.h5")
    assert source.shapes["first/bias"] == (2, 15)
    assert source.shapes["second/bias"] == (16,)
    assert source.shapes["ways/backward_inner/bias"] == (2, 6)
    assert (source.kinds["first"], source.kinds["second"]) == ("GRU", "LSTM")
    assert source.kinds["both/forward_cu_dnnlstm_1"] == "LSTM"
    assert source.stored["first/kernel"].how == "from CuDNN's order"


def normalised(x: np.ndarray, layer: Arrays, epsilon: float) -> np.ndarray:
    scale = layer["gamma"] / np.sqrt(layer["moving_variance"] + epsilon)
    return (x - layer["moving_mean"]) * scale + layer["beta"]


def ordered(x: np.ndarray, layers: Mapping[str, Arrays]) -> np.ndarray:
    """The map that `ordered` of make_keras1.py flattens."""
    x = normalised(convolved(x, **layers["conv_a"]), layers["bn"], 1e-3)
    x = np.where(x > 0, x, x * layers["prelu"]["alpha"])
    return convolved(transposed(x, **layers["up"], stride=2), **layers["conv_b"], stride=(3, 2))


def separated(x: np.ndarray, layers: Mapping[str, Arrays]) -> np.ndarray:
    layer = layers["sep"]
    return convolved(depthwise(x, layer["depthwise_kernel"]), layer["pointwise_kernel"], layer["bias"])


def voluminous(x: np.ndarray, layers: Mapping[str, Arrays]) -> np.ndarray:
    return convolved(np.moveaxis(x, 1, -1) if x.shape[1] == 2 else x, **layers["conv"])


def keras_2(x: np.ndarray, layers: Mapping[str, Arrays]) -> np.ndarray:
    x = separated(convolved(x, **layers["conv"]), layers)
    x = depthwise(x, layers["depth"]["kernel"]) + layers["depth"]["bias"]
    return transposed(x, **layers["up"], stride=2)


def told(source: bridge.Source) -> Mapping[str, Stored]:
    """The weights with what only the module says where the file has none of its classes."""
    keras_1 = (source.keras_version or "").startswith("1")
    return old_arrays.told(source.stored, {"up": "Conv2DTranspose"}) if keras_1 and not source.kinds else source.stored


ORDERED: dict[str, tuple[Any, tuple[int, ...]]] = {  # what a model computes, and the map that it flattens
    "keras1_ordered_th": (ordered, (3, 5, 2)),
    "keras1_theano_ordered_th": (ordered, (3, 5, 2)),
    "keras1_theano_ordered_tf": (ordered, (3, 5, 2)),
    "keras1_separable_th": (separated, (4, 4, 4)),
    "keras1_theano_volume_th": (voluminous, (2, 4, 2, 4)),
    "keras2_3_1_ordered": (keras_2, ()),
    "keras2_3_1_theano_ordered": (keras_2, ()),
}


@pytest.mark.parametrize("kind", ["weights", "model"])
@pytest.mark.parametrize("name", ORDERED)
def test_every_order_of_axes_and_kernels_gives_what_the_old_keras_gave(name: str, kind: str) -> None:
    compute, map_ = ORDERED[name]
    recorded = np.load(FIXTURES / f"{name}.npz")
    old, first = name.startswith("keras1"), name.endswith("th")
    kernels = ("th" if "theano" in name else "tf") if old else None
    flatten = {"head": map_} if first and kind == "weights" else None
    source = bridge.read(FIXTURES / f"{name}_{kind}.h5", kernels=kernels, flatten=flatten)
    assert source.undecided is None
    layers = layers_of(told(source))
    x = compute(recorded["x"], layers)
    if first and kind == "model":  # its rows are those that its configuration says
        x = np.moveaxis(x, -1, 1)
    head = layers["head"]
    x = x.reshape(len(x), -1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(softmax(x), recorded["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["weights", "model"])
def test_kernels_turned_the_wrong_way_would_show(kind: str) -> None:
    recorded = np.load(FIXTURES / "keras1_theano_ordered_tf.npz")
    layers = layers_of(told(bridge.read(FIXTURES / f"keras1_theano_ordered_tf_{kind}.h5")))
    x = ordered(recorded["x"], layers)
    head = layers["head"]
    given = softmax(x.reshape(len(x), -1) @ head["kernel"] + head["bias"])
    assert np.abs(given - recorded["y"]).max() > 0.01


def test_a_standard_deviation_of_keras_1_0_5_is_squared() -> None:
    recorded = np.load(FIXTURES / "keras1_0_5_deviations.npz")
    stored = bridge.read(FIXTURES / "keras1_0_5_deviations_weights.h5").stored
    modern = old_arrays.modern(stored, version="1.0.5", backend=None, kinds={})
    layers = layers_of(modern.stored)
    x = convolved(recorded["x"], **layers["conv"], stride=2)
    x = np.maximum(normalised(x, layers["bn"], 0.0), 0)
    head = layers["head"]
    given = softmax(x.reshape(len(x), -1) @ head["kernel"] + head["bias"])
    np.testing.assert_allclose(given, recorded["y"], rtol=1e-4, atol=1e-5)
    assert modern.notes == (
        "bn: Keras before 1.0.6 stored a standard deviation, squared here; it divided by that plus epsilon.",
    )
    same = old_arrays.modern(stored, version="1", backend=None, kinds={})  # whose version is not known
    np.testing.assert_array_equal(same.stored["bn/moving_variance"].fetch(), stored["bn/moving_variance"].fetch())


# ------------------------------------------------------------------------------------------------ by hand


@pytest.fixture
def stored_of() -> Callable[[Arrays], dict[str, Stored]]:
    return lambda arrays: {key: in_memory(key, array) for key, array in arrays.items()}


def vgg(draw: Draw) -> dict[str, np.ndarray]:
    """A small network as a file of channels last holds it, on maps of 4 x 4 that become 2 x 2."""
    return {
        "block1_conv1/kernel": draw(3, 3, 3, 4, seed=1),
        "block1_conv1/bias": draw(4, seed=2),
        "block1_conv2/kernel": draw(3, 3, 4, 4, seed=3),  # which tells nothing by itself
        "block1_conv2/bias": draw(4, seed=4),
        "fc1/kernel": draw(16, 5, seed=5),
        "fc1/bias": draw(5, seed=6),
    }


def spelled_out(arrays: Arrays, ordering: str, kernels: str) -> dict[str, np.ndarray]:
    """The same as it would be stored with this ordering, by this backend."""
    found = {}
    for key, array in arrays.items():
        if array.ndim == 4:
            array = array[::-1, ::-1] if kernels == "th" else array
            array = array.transpose(3, 2, 0, 1) if ordering == "th" else array
        elif key == "fc1/kernel" and ordering == "th":
            array = array.reshape(2, 2, 4, 5).transpose(2, 0, 1, 3).reshape(16, 5)
        found[key] = array
    return found


@pytest.mark.parametrize("kernels", ["th", "tf"])
@pytest.mark.parametrize("ordering", ["th", "tf"])
@pytest.mark.parametrize("version", ["1", "1.2.2", "0"])
def test_all_four_kinds_of_public_vgg_files_hold_the_same_weights(
    version: str, ordering: str, kernels: str, numbers: Draw, stored_of: Any
) -> None:
    expected = vgg(numbers)
    stored = stored_of(spelled_out(expected, ordering, kernels))
    modern = old_arrays.modern(stored, version=version, backend=None, kinds={}, kernels=kernels)
    assert modern.undecided is None
    assert list(modern.stored) == list(expected)
    for key, array in expected.items():
        fetched = modern.stored[key].fetch()
        np.testing.assert_array_equal(fetched, array, err_msg=key)
        assert modern.stored[key].shape == fetched.shape
        assert fetched.flags.c_contiguous
    assert modern.flattened == ({"fc1": (2, 2, 4)} if ordering == "th" else {})


def test_what_was_done_is_said(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of(spelled_out(vgg(numbers), "th", "th"))
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="th")
    assert modern.notes == (
        "Its kernels have their channels first (dim_ordering 'th'): they are given with channels last.",
        "Theano wrote it: its kernels are rotated by 180 degrees, as all but Theano compute with them.",
        "fc1 stands behind a Flatten of channels first: its rows are given in the order of a map (2, 2, 4), "
        "taken to be square.",
    )
    assert modern.stored["block1_conv1/kernel"].how == "channels first -> last, rotated by 180 degrees"
    assert modern.stored["fc1/kernel"].how == "rows (4, 2, 2) -> (2, 2, 4)"
    assert modern.stored["block1_conv1/bias"].how == ""


def test_nothing_is_read_before_it_is_asked_for(numbers: Draw) -> None:
    def never() -> np.ndarray:
        raise AssertionError("fetched")

    arrays = spelled_out(vgg(numbers), "th", "th")
    stored = {key: Stored(array.shape, "float32", never) for key, array in arrays.items()}
    modern = old_arrays.modern(stored, version="0", backend=None, kinds={}, kernels="th")
    with pytest.raises(AssertionError, match="fetched"):
        modern.stored["fc1/kernel"].fetch()


def test_channels_first_without_a_word_of_who_wrote_them_decide_nothing(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of(spelled_out(vgg(numbers), "th", "th"))
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    assert modern.undecided == (
        "the file does not say whether Theano wrote it: read it with kernels='th' (rotated by 180 degrees, as "
        "Theano's need to be) or kernels='tf' (taken as they are)."
    )


def test_kernels_of_one_place_have_nothing_to_decide(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of({"conv/kernel": numbers(5, 3, 1, 1), "conv/bias": numbers(5)})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    assert modern.undecided is None
    assert modern.stored["conv/kernel"].shape == (1, 1, 3, 5)


def test_a_map_that_is_not_square_is_asked_for(numbers: Draw, stored_of: Any) -> None:
    kernel, dense = numbers(4, 3, 3, 3), numbers(2 * 3 * 4, 5)
    stored = stored_of({"conv/kernel": kernel, "conv/bias": numbers(4), "fc1/kernel": dense, "fc1/bias": numbers(5)})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf")
    assert modern.undecided == (
        "fc1 takes 24 values of a map with its channels first, and the file does not say of which: read it with "
        "flatten={'fc1': (height, width, channels)}."
    )
    said = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": (2, 3, 4)})
    assert said.undecided is None
    rows = dense.reshape(4, 2, 3, 5).transpose(1, 2, 0, 3).reshape(24, 5)
    np.testing.assert_array_equal(said.stored["fc1/kernel"].fetch(), rows)
    none = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": None})
    np.testing.assert_array_equal(none.stored["fc1/kernel"].fetch(), dense)
    with pytest.raises(bridge.BridgeError, match=r"fc1 takes 24 values, not those of a \(2, 2, 4\) map"):
        old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": (2, 2, 4)})


def test_a_normalisation_behind_the_flatten_has_its_values_in_the_same_order(numbers: Draw, stored_of: Any) -> None:
    mean = numbers(16)
    stored = stored_of(
        {
            "conv/kernel": numbers(4, 3, 3, 3),
            "conv/bias": numbers(4),
            **{f"bn/{role}": mean for role in ("gamma", "beta", "moving_mean", "moving_variance")},
            "fc1/kernel": numbers(16, 5),
            "fc1/bias": numbers(5),
        }
    )
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf")
    assert modern.flattened == {"bn": (2, 2, 4), "fc1": (2, 2, 4)}
    np.testing.assert_array_equal(modern.stored["bn/beta"].fetch(), mean.reshape(4, 4).T.reshape(16))


@pytest.mark.parametrize(
    ("shape", "bias", "expected"),
    [
        ((64, 3, 3, 3), None, (3, 3, 3, 64)),  # a window of 64 x 3 is none
        ((3, 3, 64, 64), 64, (3, 3, 64, 64)),
        ((128, 64, 1, 1), None, (1, 1, 64, 128)),
        ((5, 4, 3, 3), 5, (3, 3, 4, 5)),
        ((3, 3, 5, 3), 3, (3, 3, 5, 3)),
        ((8, 2, 3, 3, 3), 8, (3, 3, 3, 2, 8)),
    ],
)
def test_shapes_tell_the_order_of_axes(
    shape: tuple[int, ...], bias: int | None, expected: tuple[int, ...], numbers: Draw, stored_of: Any
) -> None:
    arrays = {"conv/kernel": numbers(*shape)} | ({"conv/bias": numbers(bias)} if bias else {})
    modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf")
    assert modern.stored["conv/kernel"].shape == expected
    assert not any("may have its channels" in note for note in modern.notes)


def test_the_layers_that_tell_decide_for_those_that_do_not(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 3, 3, 3, seed=7)
    known = {"known/kernel": numbers(5, 3, 2, 3), "known/bias": numbers(5)}
    arrays = {"doubtful/kernel": kernel, "doubtful/bias": numbers(3)}
    both = old_arrays.modern(stored_of(arrays | known), version="1", backend=None, kinds={}, kernels="tf")
    np.testing.assert_array_equal(both.stored["doubtful/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))
    alone = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf")
    np.testing.assert_array_equal(alone.stored["doubtful/kernel"].fetch(), kernel)
    assert alone.notes == (
        "doubtful's kernel (3, 3, 3, 3) may have its channels last or first: taken as last, dim_ordering='tf'.",
    )
    said = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf", dim_ordering="th")
    np.testing.assert_array_equal(said.stored["doubtful/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dim_ordering": "tf"}, r"dim_ordering is not 'tf' but 'th': first has the kernel \(5, 3, 2, 3\) and 5 biases"),
    ({"dim_ordering": "first"}, r"dim_ordering='first' is neither 'th' nor 'tf'"),
    ({"kernels": "theano"}, r"kernels='theano' is neither 'th' nor 'tf'"),
    ({"dim_ordering": "th", "version": "2.2.4"}, r"dim_ordering is for files of Keras 0 and 1"),
    (
        {"architecture": {"config": [{"config": {"dim_ordering": "tf"}}]}},
        r"dim_ordering is 'tf' \(its configuration says so\) and 'th' \(first has the kernel",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_contradict_the_file_are_refused(
    options: dict[str, Any], message: str, numbers: Draw, stored_of: Any
) -> None:
    stored = stored_of({"first/kernel": numbers(5, 3, 2, 3), "first/bias": numbers(5)})
    with pytest.raises(bridge.BridgeError, match=message):
        old_arrays.modern(stored, **{"version": "1", "backend": None, "kinds": {}} | options)


def test_layers_that_contradict_each_other_are_refused(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "a/kernel": numbers(5, 3, 2, 3),
        "a/bias": numbers(5),
        "b/kernel": numbers(3, 3, 2, 6),
        "b/bias": numbers(6),
    }
    message = (
        r"dim_ordering is 'tf' \(b has the kernel \(3, 3, 2, 6\) and 6 biases\) and 'th' \(a has the kernel "
        r"\(5, 3, 2, 3\) and 5 biases\) in one\. Get the file again\."
    )
    with pytest.raises(bridge.BridgeError, match=message):
        old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={})


def test_the_configuration_says_the_order_of_axes(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 3, 3, 3)
    entry = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": {"config": {"dim_ordering": "th"}}}}
    modern = old_arrays.modern(
        stored_of({"td/kernel": kernel, "td/bias": numbers(3)}),
        version="1.2.2",
        backend=None,
        kinds={"td": "TimeDistributed"},
        kernels="tf",
        architecture={"class_name": "Sequential", "config": [entry]},
    )
    np.testing.assert_array_equal(modern.stored["td/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))


def test_a_layer_over_time_is_told_by_what_it_holds(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 1, 2, 4)
    layer = {"class_name": "Convolution1D", "config": {"name": "inner"}}
    entry = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": layer}}
    modern = old_arrays.modern(
        stored_of({"td/kernel": kernel, "td/bias": numbers(4)}),
        version="1.2.2",
        backend=None,
        kinds={"td": "TimeDistributed"},
        architecture={"class_name": "Sequential", "config": [entry]},
    )
    np.testing.assert_array_equal(modern.stored["td/kernel"].fetch(), kernel[:, 0])
    assert modern.kinds == {"td": "TimeDistributed"}


@pytest.mark.parametrize("named", ["convolution1d_3", "line"])
def test_both_forms_of_conv1d_are_one(named: str, numbers: Draw, stored_of: Any) -> None:
    kernel, bias = numbers(3, 2, 4), numbers(4)
    newer = {f"{named}/kernel": kernel[:, None], f"{named}/bias": bias}
    oldest = {f"{named}/kernel": kernel.transpose(2, 1, 0)[..., None], f"{named}/bias": bias}
    for arrays, known in ((newer, named != "line"), (oldest, True)):
        modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={})
        assert modern.kinds == ({named: "Conv1D"} if known else {})
        stored = modern.stored if known else old_arrays.told(modern.stored, {named: "Conv1D"})
        np.testing.assert_array_equal(stored[f"{named}/kernel"].fetch(), kernel)


def test_a_conv1d_keeps_its_axes_among_channels_first(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 1, 2, 4)
    arrays = {"c/kernel": numbers(5, 3, 2, 3), "c/bias": numbers(5), "line/kernel": kernel, "line/bias": numbers(4)}
    modern = old_arrays.modern(
        stored_of(arrays), version="1.2.2", backend=None, kinds={"c": "Conv2D", "line": "Conv1D"}, kernels="th"
    )
    np.testing.assert_array_equal(modern.stored["line/kernel"].fetch(), kernel[::-1, 0])


def test_only_the_module_may_say_what_a_layer_is(numbers: Draw, stored_of: Any) -> None:
    kernel, words = numbers(2, 3, 4, 5), numbers(9, 4)
    stored = stored_of({"up/kernel": kernel, "up/bias": numbers(5), "words/kernel": words})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    told = old_arrays.told(modern.stored, {"up": "Conv2DTranspose", "words": "Embedding"})
    np.testing.assert_array_equal(told["up/kernel"].fetch(), kernel.transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(told["words/embeddings"].fetch(), words)
    assert list(told) == ["up/kernel", "up/bias", "words/embeddings"]


@pytest.mark.parametrize("version", ["1", "2.1.6"])
def test_a_deconvolution_is_told_by_its_own_name(version: str, numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(2, 3, 4, 5)
    arrays = {"deconvolution2d_1/kernel": kernel, "deconvolution2d_1/bias": numbers(5 if version == "1" else 4)}
    modern = old_arrays.modern(stored_of(arrays), version=version, backend=None, kinds={})
    expected = kernel.transpose(0, 1, 3, 2) if version == "1" else kernel
    np.testing.assert_array_equal(modern.stored["deconvolution2d_1/kernel"].fetch(), expected)
    assert modern.kinds == {"deconvolution2d_1": "Conv2DTranspose"}


def test_theano_turns_no_kernel_without_a_window(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "conv/kernel": numbers(3, 2, 4, 5),
        "line/kernel": numbers(3, 4, 5),
        "local/kernel": numbers(6, 4, 5),
        "local/bias": numbers(6, 5),
        "depth/depthwise_kernel": numbers(3, 2, 4, 2),
        "sep/depthwise_kernel": numbers(3, 2, 4, 2),
        "sep/pointwise_kernel": numbers(1, 1, 8, 5),
        "lstm/kernel": numbers(3, 3, 2, 12),
        "lstm/recurrent_kernel": numbers(3, 3, 3, 12),
        "lstm/bias": numbers(12),
        "gru/kernel": numbers(4, 9),
        "gru/recurrent_kernel": numbers(3, 9),
        "gru/bias": numbers(9),
    }
    modern = old_arrays.modern(stored_of(arrays), version="2.3.1", backend="theano", kinds={})
    turned = {key for key, tensor in modern.stored.items() if tensor.how == "rotated by 180 degrees"}
    assert turned == {"conv/kernel", "line/kernel", "lstm/kernel", "lstm/recurrent_kernel"}
    np.testing.assert_array_equal(modern.stored["conv/kernel"].fetch(), arrays["conv/kernel"][::-1, ::-1])
    np.testing.assert_array_equal(modern.stored["line/kernel"].fetch(), arrays["line/kernel"][::-1])
    assert "depth/kernel" in modern.stored
    assert modern.kinds == {"depth": "DepthwiseConv2D", "sep": "SeparableConv2D", "gru": "GRU"}


def test_the_word_of_the_user_goes_before_the_backend(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 2, 4, 5)
    for backend, kernels, turned in (("theano", "tf", False), ("tensorflow", "th", True), ("tensorflow", None, False)):
        modern = old_arrays.modern(
            stored_of({"conv/kernel": kernel}), version="2.1.6", backend=backend, kinds={}, kernels=kernels
        )
        expected = kernel[::-1, ::-1] if turned else kernel
        np.testing.assert_array_equal(modern.stored["conv/kernel"].fetch(), expected)


def test_gates_of_a_convolutional_lstm_are_put_together_channels_last(numbers: Draw, stored_of: Any) -> None:
    gates = {
        f"lstm/{letter}_{gate}": numbers(*shape, seed=ord(gate) + ord(letter))
        for gate in "icfo"
        for letter, shape in (("W", (4, 2, 3, 3)), ("U", (4, 4, 3, 3)), ("b", (4,)))
    }
    modern = old_arrays.modern(stored_of(gates), version="1", backend=None, kinds={}, kernels="th")
    kernel = np.concatenate([gates[f"lstm/W_{gate}"].transpose(2, 3, 1, 0) for gate in "ifco"], -1)
    np.testing.assert_array_equal(modern.stored["lstm/kernel"].fetch(), kernel[::-1, ::-1])
    assert modern.stored["lstm/recurrent_kernel"].shape == (3, 3, 4, 16)
    np.testing.assert_array_equal(
        modern.stored["lstm/bias"].fetch(), np.concatenate([gates[f"lstm/b_{gate}"] for gate in "ifco"])
    )


def test_what_is_not_known_is_left_as_it_is(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "highway/kernel": numbers(4, 4),
        "highway/W_carry": numbers(4, 4),
        "highway/bias": numbers(4),
        "highway/b_carry": numbers(4),
        "maxout/kernel": numbers(3, 4, 5),
        "maxout/bias": numbers(3, 5),
        "own/thing": numbers(2, 3, 4, 5, 6, 7),
    }
    modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="th")
    for key, array in arrays.items():
        np.testing.assert_array_equal(modern.stored[key].fetch(), array)
    assert (modern.kinds, modern.notes, modern.undecided) == ({}, (), None)


@pytest.mark.parametrize("version", ["2.4.0", "2.15.0", "3.15.1"])
def test_what_keras_3_has_is_as_it_was(version: str, numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "conv/kernel": numbers(64, 3, 3, 3),
        "conv/bias": numbers(64),
        "gru/kernel": numbers(4, 9),
        "gru/recurrent_kernel": numbers(3, 9),
        "gru/bias": numbers(2, 9),
        "bn/moving_variance": numbers(4),
    }
    stored = stored_of(arrays)
    modern = old_arrays.modern(stored, version=version, backend="tensorflow", kinds={})
    assert modern.stored == stored
    assert (modern.notes, modern.undecided) == ((), None)


SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)
NAMES = st.sampled_from(["conv", "gru_1", "embedding_1", "convolution1d_1", "deconvolution2d_1", "bn", "fc1"])
KEYS = st.builds("{}/{}".format, NAMES, st.sampled_from([*KERAS_1_ROLES.values(), "embeddings", "own"]))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(KEYS, SHAPES, max_size=16),
    version=st.sampled_from(["0", "1", "1.0.8", "1.2.2", "2.2.4", "3.15.1"]),
    dim_ordering=st.sampled_from([None, "th", "tf"]),
    kernels=st.sampled_from([None, "th", "tf"]),
)
def test_no_array_gets_lost_and_no_number_changes_whatever_a_file_holds(
    shapes: dict[str, tuple[int, ...]], version: str, dim_ordering: str | None, kernels: str | None, stored_of: Any
) -> None:
    assume(all(len(shape) > 1 for key, shape in shapes.items() if key.endswith("recurrent_kernel")))
    arrays = {key: np.random.default_rng(0).random(shape) for key, shape in shapes.items()}
    try:
        modern = old_arrays.modern(
            stored_of(arrays), version=version, backend=None, kinds={}, dim_ordering=dim_ordering, kernels=kernels
        )
    except bridge.BridgeError:
        return
    found = {key: tensor.fetch() for key, tensor in modern.stored.items()}
    assert {key: array.shape for key, array in found.items()} == {key: t.shape for key, t in modern.stored.items()}
    if not any("squared" in tensor.how or "added" in tensor.how for tensor in modern.stored.values()):
        assert numbers_in(found) == numbers_in(arrays)


def numbers_in(arrays: Arrays) -> list[float]:
    return sorted(number for array in arrays.values() for number in array.ravel().tolist())
