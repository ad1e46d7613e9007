"""Models that hold every class of layer, what they hold, and how a file of them is read and compared."""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import bridge
from bridge.hdf5 import open_file
from bridge.keras_files import keras_v3

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
