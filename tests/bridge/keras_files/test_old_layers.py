"""What Keras 0, 1 and 2 and Theano stored in their own way computes, as it is given here, what they computed.

The fixtures are files that old Keras really wrote, on TensorFlow and on Theano; each .npz holds an input and what
became of it.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import bridge
from bridge.keras_files import old_arrays
from bridge.source import Stored

FIXTURES = Path(__file__).parents[1] / "fixtures"
Arrays = Mapping[str, np.ndarray]


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
