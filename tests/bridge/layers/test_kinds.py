"""Every layer kind, from a real Keras file into a PyTorch module, computes what Keras computes."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digests import without_digest
from torch import nn

import bridge
from bridge import rnn

RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True)
class Case:
    """A Keras layer and the module that computes the same, for inputs of a shape (channels last, batch left out)."""

    name: str
    keras: Callable[[Any], Any]
    module: Callable[[], nn.Module]
    given: tuple[int, ...]
    channels_first: bool = True
    integers: int = 0
    converts: bool = True  # False where only the module tells what becomes of the weights


class First(nn.Module):
    """The outputs of a recurrent layer without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Folded(nn.Module):
    """A layer on every step: time folded into the batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.flatten(0, 1).movedim(-1, 1) if x.ndim > 3 else x.flatten(0, 1)
        given = self.layer(steps)
        return (given.movedim(1, -1) if given.ndim > 2 else given).unflatten(0, x.shape[:2])


class Separable(nn.Module):
    """A depthwise convolution and one over single positions."""

    def __init__(self, depthwise: nn.Module, pointwise: nn.Module) -> None:
        super().__init__()
        self.depthwise, self.pointwise = depthwise, pointwise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


CASES = [
    Case("Conv1D", lambda k: k.Conv1D(5, 3), lambda: nn.Conv1d(4, 5, 3), (9, 4)),
    Case(
        "Conv1D",
        lambda k: k.Conv1D(6, 3, groups=2, dilation_rate=2, use_bias=False),
        lambda: nn.Conv1d(4, 6, 3, groups=2, dilation=2, bias=False),
        (9, 4),
    ),
    Case("Conv2D", lambda k: k.Conv2D(5, (3, 2)), lambda: nn.Conv2d(4, 5, (3, 2)), (7, 6, 4)),
    Case("Conv2D", lambda k: k.Conv2D(8, 3, groups=4), lambda: nn.Conv2d(4, 8, 3, groups=4), (7, 6, 4)),
    Case(
        "Conv3D",
        lambda k: k.Conv3D(5, (2, 3, 4), strides=2),
        lambda: nn.Conv3d(3, 5, (2, 3, 4), stride=2),
        (6, 7, 8, 3),
    ),
    Case(
        "Conv1DTranspose",
        lambda k: k.Conv1DTranspose(5, 3, strides=2),
        lambda: nn.ConvTranspose1d(4, 5, 3, stride=2),
        (6, 4),
    ),
    Case(
        "Conv2DTranspose",
        lambda k: k.Conv2DTranspose(5, (3, 2), strides=2),
        lambda: nn.ConvTranspose2d(4, 5, (3, 2), stride=2),
        (5, 6, 4),
    ),
    Case(
        "Conv3DTranspose",
        lambda k: k.Conv3DTranspose(2, (2, 3, 2)),
        lambda: nn.ConvTranspose3d(3, 2, (2, 3, 2)),
        (3, 4, 5, 3),
    ),
    Case(
        "DepthwiseConv2D",
        lambda k: k.DepthwiseConv2D((3, 2), depth_multiplier=2),
        lambda: nn.Conv2d(4, 8, (3, 2), groups=4),
        (7, 6, 4),
    ),
    Case(
        "DepthwiseConv2D",
        lambda k: k.DepthwiseConv2D(3, use_bias=False),
        lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False),
        (7, 6, 4),
    ),
    Case(
        "DepthwiseConv1D",
        lambda k: k.DepthwiseConv1D(3, depth_multiplier=3),
        lambda: nn.Conv1d(4, 12, 3, groups=4),
        (7, 4),
    ),
    Case(
        "SeparableConv2D",
        lambda k: k.SeparableConv2D(5, (3, 2), depth_multiplier=2),
        lambda: Separable(nn.Conv2d(4, 8, (3, 2), groups=4, bias=False), nn.Conv2d(8, 5, 1)),
        (7, 6, 4),
    ),
    Case(
        "SeparableConv2D",
        lambda k: k.SeparableConv2D(5, 3),
        lambda: Separable(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1)),
        (7, 6, 4),
        converts=False,
    ),
    Case(
        "SeparableConv1D",
        lambda k: k.SeparableConv1D(5, 3),
        lambda: Separable(nn.Conv1d(4, 4, 3, groups=4, bias=False), nn.Conv1d(4, 5, 1)),
        (7, 4),
    ),
    Case("Dense", lambda k: k.Dense(5), lambda: nn.Linear(4, 5), (4,)),
    Case("Dense", lambda k: k.Dense(5), lambda: nn.Conv2d(4, 5, 1), (3, 2, 4), converts=False),
    Case(
        "Dense",
        lambda k: k.Dense(5, use_bias=False),
        lambda: nn.Linear(4, 5),
        (6, 4),
        channels_first=False,
        converts=False,
    ),
    Case("BatchNormalization", lambda k: k.BatchNormalization(), lambda: nn.BatchNorm2d(4, eps=1e-3), (5, 6, 4)),
    Case(
        "BatchNormalization", lambda k: k.BatchNormalization(scale=False), lambda: nn.BatchNorm1d(4, eps=1e-3), (5, 4)
    ),
    Case(
        "BatchNormalization",
        lambda k: k.BatchNormalization(center=False, scale=False),
        lambda: nn.BatchNorm3d(3, eps=1e-3),
        (2, 3, 4, 3),
    ),
    Case(
        "LayerNormalization",
        lambda k: k.LayerNormalization(),
        lambda: nn.LayerNorm(4, eps=1e-3),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "LayerNormalization",
        lambda k: k.LayerNormalization(axis=(1, 2, 3)),
        lambda: nn.LayerNorm((4, 5, 3), eps=1e-3),
        (5, 3, 4),
    ),
    Case(
        "LayerNormalization",
        lambda k: k.LayerNormalization(center=False),
        lambda: nn.LayerNorm(4, eps=1e-3),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "GroupNormalization", lambda k: k.GroupNormalization(groups=2), lambda: nn.GroupNorm(2, 6, eps=1e-3), (5, 4, 6)
    ),
    Case("PReLU", lambda k: k.PReLU(shared_axes=[1, 2]), lambda: nn.PReLU(4), (5, 6, 4)),
    Case("PReLU", lambda k: k.PReLU(), lambda: rnn.PReLU((4, 5, 6)), (5, 6, 4)),
    Case("PReLU", lambda k: k.PReLU(), lambda: nn.PReLU(4), (4,)),
    Case("PReLU", lambda k: k.PReLU(), lambda: rnn.PReLU((4, 5)), (5, 4)),
    Case("PReLU", lambda k: k.PReLU(), lambda: rnn.PReLU((3, 2, 4, 2)), (2, 4, 2, 3)),
    Case("PReLU", lambda k: k.PReLU(shared_axes=[1]), lambda: nn.PReLU(4), (5, 4)),
    Case(
        "Embedding", lambda k: k.Embedding(11, 5), lambda: nn.Embedding(11, 5), (6,), channels_first=False, integers=11
    ),
    Case(
        "SimpleRNN",
        lambda k: k.SimpleRNN(5, return_sequences=True),
        lambda: nn.RNN(4, 5, batch_first=True),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "SimpleRNN",
        lambda k: k.SimpleRNN(5, activation="relu", return_sequences=True),
        lambda: nn.RNN(4, 5, batch_first=True, nonlinearity="relu"),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "LSTM",
        lambda k: k.LSTM(5, return_sequences=True),
        lambda: nn.LSTM(4, 5, batch_first=True),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "LSTM",
        lambda k: k.LSTM(5, return_sequences=True, use_bias=False),
        lambda: nn.LSTM(4, 5, batch_first=True),
        (6, 4),
        channels_first=False,
        converts=False,
    ),
    Case(
        "LSTM",
        lambda k: k.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid"),
        lambda: rnn.LSTM(4, 5, recurrent_activation="hard_sigmoid_3"),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "GRU",
        lambda k: k.GRU(5, return_sequences=True),
        lambda: nn.GRU(4, 5, batch_first=True),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "GRU",
        lambda k: k.GRU(5, return_sequences=True, reset_after=False),
        lambda: rnn.GRU(4, 5, recurrent_activation="sigmoid"),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "GRU",
        lambda k: k.GRU(5, return_sequences=True, use_bias=False),
        lambda: nn.GRU(4, 5, batch_first=True),
        (6, 4),
        channels_first=False,
        converts=False,
    ),
    Case(
        "GRU",
        lambda k: k.GRU(5, return_sequences=True, reset_after=True, recurrent_activation="hard_sigmoid"),
        lambda: rnn.GRU(4, 5, reset_after=True, recurrent_activation="hard_sigmoid_3"),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "Bidirectional",
        lambda k: k.Bidirectional(k.LSTM(5, return_sequences=True)),
        lambda: nn.LSTM(4, 5, batch_first=True, bidirectional=True),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "Bidirectional",
        lambda k: k.Bidirectional(k.GRU(5, return_sequences=True)),
        lambda: nn.GRU(4, 5, batch_first=True, bidirectional=True),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "TimeDistributed",
        lambda k: k.TimeDistributed(k.Dense(5)),
        lambda: Folded(nn.Linear(4, 5)),
        (6, 4),
        channels_first=False,
    ),
    Case(
        "TimeDistributed",
        lambda k: k.TimeDistributed(k.Conv2D(5, 3)),
        lambda: Folded(nn.Conv2d(4, 5, 3)),
        (3, 6, 7, 4),
        channels_first=False,
    ),
]


class Holder(nn.Module):
    """A module whose one layer is called as Keras's is."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        inner = layer.layer if isinstance(layer, Folded) else layer
        self.add_module("under_test", inner)
        self.run = [First(inner) if isinstance(inner, (nn.RNNBase, rnn.SimpleRNN, rnn.LSTM, rnn.GRU)) else layer]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run[0](x)


def build(case: Case, keras: Any, randomised: Any) -> Any:
    layer = case.keras(keras.layers)
    layer.name = "under_test"
    inputs = keras.layers.Input(case.given, dtype="int32" if case.integers else None)
    return randomised(keras.Model(inputs, layer(inputs)))


def assert_computes_the_same(case: Case, model: Any, module: nn.Module) -> None:
    numbers = np.random.default_rng(3)
    x = (
        numbers.integers(0, case.integers, (2, *case.given))
        if case.integers
        else numbers.standard_normal((2, *case.given))
    )
    x = x.astype(np.int32 if case.integers else np.float32)
    expected = model(x, training=False).detach().numpy()
    given = torch.from_numpy(x)
    with torch.inference_mode():
        got = module.eval()(given.movedim(-1, 1) if case.channels_first else given)
    got = (got.movedim(1, -1) if case.channels_first else got).numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole", "weights"])
@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.name}" for i, case in enumerate(CASES)])
def test_a_layer_computes_in_pytorch_what_it_computed_in_keras(
    case: Case, weights_only: bool, keras: Any, randomised: Any, saved: Any
) -> None:
    model = build(case, keras, randomised)
    module = Holder(case.module())
    plan = bridge.load(module, saved(model, weights_only=weights_only))
    assert plan.skipped == ()
    assert plan.untouched == ()
    assert_computes_the_same(case, model, module)


@pytest.mark.parametrize("case", [case for case in CASES if case.converts], ids=lambda case: case.name)
def test_converted_first_it_computes_the_same(
    case: Case, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    model = build(case, keras, randomised)
    module = Holder(case.module())
    converted = tmp_path / "weights.safetensors"
    bridge.convert(saved(model), converted)
    plan = bridge.load(module, converted)
    assert plan.skipped == ()
    assert_computes_the_same(case, model, module)


def zeroed(model: Any) -> Any:
    for weight in model.weights:
        weight.assign(np.zeros(tuple(weight.shape), np.float32))
    return model


def held(model: Any) -> list[np.ndarray]:
    return [weight.value.detach().numpy() for weight in model.weights]


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.name}" for i, case in enumerate(CASES)])
def test_what_went_into_pytorch_comes_back_to_keras_bit_for_bit(
    case: Case, ending: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    model = build(case, keras, randomised)
    original, back = tmp_path / f"original{ending}", tmp_path / f"back{ending}"
    if ending == ".weights.h5":
        with warnings.catch_warnings():  # Keras's, of its own variables
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
            model.save_weights(original)
    else:
        saved(model, original.name)
    module = Holder(case.module())
    bridge.load(module, original)
    bridge.save(module, back, like=original)
    if ending != ".keras":
        assert without_digest(back) == original.read_bytes()
    before = held(model)
    zeroed(model).load_weights(back)
    for one, other in zip(before, held(model), strict=True):
        np.testing.assert_array_equal(one, other)


# A module alone does not tell that it stands for a Dense layer, for a Conv2D with a group for each channel, for
# a PReLU that shares its slopes otherwise, or in a wrapper; a file to write like does.
ALONE = [case for index, case in enumerate(CASES) if case.name != "TimeDistributed" and index not in (3, 15, 26, 29)]


@pytest.mark.parametrize("case", ALONE, ids=[f"{i}-{case.name}" for i, case in enumerate(ALONE)])
def test_a_module_alone_becomes_a_file_that_keras_loads(
    case: Case, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    model = build(case, keras, randomised)
    if any(
        flag in str(model.layers[1].get_config()) for flag in ("'scale': False", "'center': False", "'use_bias': False")
    ):
        pytest.skip("the module has weights that this layer does without")
    module = Holder(case.module())
    bridge.load(module, saved(model))
    back = bridge.save(module, tmp_path / "back.h5")
    before = held(model)
    zeroed(model).load_weights(back)
    for one, other in zip(before, held(model), strict=True):
        np.testing.assert_array_equal(one, other)
