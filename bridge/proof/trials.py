"""Trials for layers of every kind: one table from Keras's class to what is asked of PyTorch's module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np
from torch import Tensor, nn

from ..reference import compute
from .trial import Case, Trial, channels_first, flat_channels_first, random
from .windows import CONVOLUTIONS, convolution, separable, transposed


def dense(case: Case) -> Iterator[Trial]:
    """Dense: nn.Linear, or a convolution over one position or over a whole map."""
    layer, units = case.module, len(case.weights["kernel"])
    if isinstance(layer, CONVOLUTIONS) and prod(layer.kernel_size) == 1:
        inputs = random(2, *range(3, 3 + len(layer.kernel_size)), units)
        yield Trial(channels_first(inputs), channels_first(_output(case, inputs)), "", layer.forward)
        return
    inputs = random(4, units)
    expected = flat_channels_first(_output(case, inputs), case.given)
    ordered = flat_channels_first(inputs, case.taken)
    if isinstance(layer, CONVOLUTIONS):
        window = ordered.reshape(len(ordered), layer.in_channels, *layer.kernel_size)
        yield Trial(window, expected, "", lambda x: layer.forward(x).flatten(1))
        return
    yield Trial(ordered, expected, "", layer.forward)
    maps = ordered
    if isinstance(case.taken, tuple):
        maps = ordered.reshape(len(ordered), case.taken[-1], *case.taken[:-1])
    yield Trial(maps, expected, "", lambda x: layer.forward(x).flatten(1))  # one that takes or gives whole maps


def elementwise(case: Case) -> Iterator[Trial]:
    """PReLU and BatchNormalization: what goes in comes out in the same places."""
    inner = next(iter(case.weights.values())).shape
    places = (1,) * _rank(case.module, _NORMALISED) if case.kind == "BatchNormalization" else inner[:-1]
    inputs = random(4, *(size if size > 1 else 3 + at for at, size in enumerate(places)), inner[-1])
    expected = _output(case, inputs)
    if places:
        yield Trial(channels_first(inputs), channels_first(expected), "", case.module.forward)
    else:
        taken = case.taken
        given, wanted = flat_channels_first(inputs, taken), flat_channels_first(expected, taken)
        yield Trial(given, wanted, "", case.module.forward)


def layer_normalization(case: Case) -> Iterator[Trial]:
    """LayerNormalization: over the last axes as both have them, or over the channels, which PyTorch may have first."""
    inner = next(iter(case.weights.values())).shape
    if len(inner) > 1 or case.taken:
        inputs = random(4, *inner)
        expected = _output(case, inputs, axis=list(range(1, len(inner) + 1)))
        if case.kept:
            yield Trial(inputs, expected, "", case.module.forward)
            return
        order = channels_first if len(inner) > 1 else lambda array: flat_channels_first(array, case.taken)
        yield Trial(order(inputs), order(expected), "", case.module.forward)
        return
    inputs = random(4, 3, 5, *inner)
    expected = _output(case, inputs, axis=-1)
    yield Trial(inputs, expected, "", case.module.forward)
    yield Trial(channels_first(inputs), channels_first(expected), "channels first", case.module.forward)


def group_normalization(case: Case) -> Iterator[Trial]:
    """GroupNormalization, which nn.InstanceNorm computes for groups of one channel."""
    inner = next(iter(case.weights.values())).shape
    inputs = random(4, *range(3, 3 + _rank(case.module, _NORMALISED)), *inner)
    yield Trial(channels_first(inputs), channels_first(_output(case, inputs)), "", case.module.forward)


def embedding(case: Case) -> Iterator[Trial]:
    """Embedding: every row."""
    rows = np.arange(len(case.weights["embeddings"]))[None]
    yield Trial(rows, _output(case, rows), "", case.module.forward)


def recurrent(case: Case) -> Iterator[Trial]:
    """SimpleRNN, LSTM and GRU: all steps of one direction; inputs large and small, as gates saturate."""
    weights = case.weights
    inputs = random(6, 5, weights["kernel"].shape[0]) * np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])[:, None, None]
    units, ordered = weights["recurrent_kernel"].shape[0], flat_channels_first(inputs, case.taken)
    if not getattr(case.module, "bidirectional", False):
        # Torch's own go forwards, and what is around them may turn the steps; ours are told which way to go.
        backwards = bool(getattr(case.module, "go_backwards", False)) and case.config.get("go_backwards") is not False
        expected = _output(case, inputs, return_sequences=True, go_backwards=backwards)
        yield Trial(ordered, expected, "", case.module.forward)
        return
    expected = _output(case, inputs, return_sequences=True, go_backwards=case.backward)
    if case.backward:
        expected = expected[:, ::-1]  # a bidirectional layer gives both directions in the order of the input

    def half(x: Tensor) -> Tensor:
        outputs: Tensor = case.module.forward(x)[0]
        return outputs[..., units:] if case.backward else outputs[..., :units]

    yield Trial(ordered, np.ascontiguousarray(expected), "", half)


def order_remark(case: Case) -> str:
    """Where Keras walks through time the other way round, which is for the module around to do."""
    backwards = bool(case.config.get("go_backwards")) and not case.backward
    if not backwards or getattr(case.module, "go_backwards", False):
        return ""
    return "but Keras goes backwards: right only where the module flips the input"


TRIALS: Mapping[str, Callable[[Case], Iterator[Trial]]] = {
    "Conv1D": convolution,
    "Conv2D": convolution,
    "Conv3D": convolution,
    "DepthwiseConv1D": convolution,
    "DepthwiseConv2D": convolution,
    "Conv1DTranspose": transposed,
    "Conv2DTranspose": transposed,
    "Conv3DTranspose": transposed,
    "SeparableConv1D": separable,
    "SeparableConv2D": separable,
    "Dense": dense,
    "BatchNormalization": elementwise,
    "PReLU": elementwise,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "Embedding": embedding,
    "SimpleRNN": recurrent,
    "LSTM": recurrent,
    "GRU": recurrent,
}


def _output(case: Case, inputs: np.ndarray, **options: object) -> np.ndarray:
    """What Keras gives; the axes are ours to say, as the inputs are ours."""
    config = {**case.config, **({"axis": -1} | options)}
    return compute(case.kind, inputs, case.weights, config)


def _rank(module: nn.Module, ranks: tuple[tuple[type[nn.Module], int], ...]) -> int:
    """How many axes a module's inputs have beside batch and channels."""
    return next((rank for kind, rank in ranks if isinstance(module, kind)), 2)


_NORMALISED = ((nn.BatchNorm1d, 0), (nn.BatchNorm3d, 3), (nn.InstanceNorm1d, 1), (nn.InstanceNorm3d, 3))
