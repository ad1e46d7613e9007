"""Every kind of layer is proved, and a mistake in any of them found."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from proofs import verdicts
from torch import nn

import bridge
from bridge import rnn
from bridge.layers.layouts import KINDS
from bridge.verify import verify


@pytest.mark.parametrize("weights_only", [True, False])
def test_every_kind_of_convolution_is_proved(keras: Any, network: Any, weights_only: bool) -> None:
    layers = keras.layers
    separable = nn.Sequential(nn.Conv2d(10, 20, 3, groups=10, bias=False), nn.ReLU(), nn.Conv2d(20, 6, 1))
    del separable[1]
    module, path = network(
        (13, 11, 4),
        ("plain", layers.Conv2D(6, (3, 2), strides=2), nn.Conv2d(4, 6, (3, 2), stride=2)),
        ("grouped", layers.Conv2D(4, 2, groups=2), nn.Conv2d(6, 4, 2, groups=2)),
        ("wide", layers.Conv2D(4, 2, dilation_rate=2), nn.Conv2d(4, 4, 2, dilation=2)),
        ("up", layers.Conv2DTranspose(5, 3, strides=3), nn.ConvTranspose2d(4, 5, 3, stride=3)),
        ("depthwise", layers.DepthwiseConv2D(2, depth_multiplier=2), nn.Conv2d(5, 10, 2, groups=5)),
        ("separable", layers.SeparableConv2D(6, 3, depth_multiplier=2), separable),
        weights_only=weights_only,
    )
    report = verify(module, path)
    assert report.ok, str(report)
    assert set(verdicts(report).values()) == {"same"}


def test_layers_over_time_and_volumes_are_proved(keras: Any, network: Any) -> None:
    layers = keras.layers
    over_time = (
        ("conv", layers.Conv1D(6, 3), nn.Conv1d(4, 6, 3)),
        ("norm", layers.BatchNormalization(), nn.BatchNorm1d(6, eps=1e-3)),
        ("up", layers.Conv1DTranspose(3, 2, strides=2), nn.ConvTranspose1d(6, 3, 2, stride=2)),
    )
    assert verify(*network((9, 4), *over_time)).ok
    volumes = (
        ("conv", layers.Conv3D(3, 2), nn.Conv3d(2, 3, 2)),
        ("up", layers.Conv3DTranspose(2, 2), nn.ConvTranspose3d(3, 2, 2)),
    )
    assert verify(*network((4, 5, 6, 2), *volumes)).ok


def test_other_layers_are_proved(keras: Any, network: Any) -> None:
    layers = keras.layers
    module, path = network(
        (6, 5, 4),
        ("slopes", layers.PReLU(), rnn.PReLU((4, 6, 5))),
        ("shared", layers.PReLU(shared_axes=[1, 2]), nn.PReLU(4)),
        ("group", layers.GroupNormalization(2), nn.GroupNorm(2, 4, eps=1e-3)),
        ("layer", layers.LayerNormalization(axis=[1, 2, 3]), nn.LayerNorm((4, 6, 5), eps=1e-3)),
        ("", layers.GlobalAveragePooling2D(), nn.Flatten()),
        ("flat", layers.BatchNormalization(scale=False), nn.BatchNorm1d(4, eps=1e-3)),
        ("head", layers.Dense(2, use_bias=False), nn.Linear(4, 2)),
    )
    assert verify(module, path).ok, str(verify(module, path))


WRONG_TABLES = {
    "Conv2D": {"axes": (3, 2, 1, 0)},
    "DepthwiseConv2D": {"axes": (3, 2, 0, 1)},
    "GRU": {"gates": (0, 1, 2)},
}


@pytest.mark.parametrize("kind", WRONG_TABLES)
def test_a_mistake_in_the_table_that_loads_is_found(
    keras: Any, network: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wrong = tuple(
        replace(layout, transforms=tuple(replace(each, **WRONG_TABLES[kind]) for each in layout.transforms))
        if "kernel" in layout.role
        else layout
        for layout in KINDS[kind]
    )
    monkeypatch.setitem(KINDS, kind, wrong)  # type: ignore[arg-type]
    pairs = {
        "Conv2D": ((7, 6, 4), keras.layers.Conv2D(4, 3), nn.Conv2d(4, 4, 3)),
        "DepthwiseConv2D": (
            (7, 6, 2),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
            nn.Conv2d(2, 4, 3, groups=2),
        ),
        "GRU": ((5, 3), keras.layers.GRU(4), nn.GRU(3, 4)),
    }
    size, layer, module = pairs[kind]
    assert verdicts(verify(*network(size, ("layer", layer, module)))) == {"layer": "differs"}


RECURRENT = {
    "SimpleRNN": ("SimpleRNN", {}, lambda: nn.RNN(3, 4, batch_first=True)),
    "LSTM": ("LSTM", {}, lambda: nn.LSTM(3, 4)),
    "GRU": ("GRU", {}, lambda: nn.GRU(3, 4, batch_first=True)),
    "GRU that resets before": (
        "GRU",
        {"reset_after": False, "recurrent_activation": "hard_sigmoid"},
        lambda: rnn.GRU(3, 4, recurrent_activation="hard_sigmoid_3"),
    ),
}


@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_layers_are_proved_and_swapped_gates_found(keras: Any, network: Any, case: str) -> None:
    kind, options, make = RECURRENT[case]
    module, path = network((5, 3), ("cell", getattr(keras.layers, kind)(4, **options), make()))
    assert verify(module, path).ok, str(verify(module, path))
    weight = module.state_dict()["cell.weight_hh_l0"]
    rows = weight.reshape(-1, 4, 4)
    order = [1, 0, *range(2, len(rows))] if len(rows) > 1 else None
    weight.copy_(rows[order].reshape(weight.shape) if order else weight.T.clone())
    report = verify(module, path)
    assert report.first is not None
    assert report.first.reason == "cell.weight_hh_l0 holds the file's numbers in another order"


def test_activations_that_the_file_does_not_say_are_the_modules_own_but_for_its_gates(keras: Any, network: Any) -> None:
    layers = keras.layers
    relu = rnn.GRU(3, 4, reset_after=True, activation="relu", recurrent_activation="sigmoid")
    module, path = network(
        (6, 3),
        ("gru", layers.GRU(4, activation="relu", return_sequences=True), relu),
        ("rnn", layers.SimpleRNN(3, activation="relu"), nn.RNN(4, 3, batch_first=True, nonlinearity="relu")),
        weights_only=True,
    )
    assert verify(module, path).ok
    with torch.no_grad():  # the gates r and z in the other's places
        weight = module.get_parameter("gru.weight_hh_l0")
        weight.copy_(torch.cat([weight[4:8], weight[:4], weight[8:]]))
    report = verify(module, path)
    assert report.first is not None
    assert report.first.name == "gru"


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_both_directions_are_proved_and_their_swap_found(keras: Any, network: Any, kind: str) -> None:
    layer = keras.layers.Bidirectional(getattr(keras.layers, kind)(4, return_sequences=True))
    module, path = network((5, 3), ("both", layer, getattr(nn, kind)(3, 4, bidirectional=True, batch_first=True)))
    report = verify(module, path)
    assert report.ok, str(report)
    assert len(report.layers) == 2
    state = module.state_dict()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        forward, backward = state[f"both.{name}"], state[f"both.{name}_reverse"]
        kept = forward.clone()
        forward.copy_(backward)
        backward.copy_(kept)
    assert list(verdicts(verify(module, path)).values()) == ["differs", "differs"]


def test_levels_of_a_stacked_lstm_are_proved_one_by_one(keras: Any, randomised: Any, saved: Any, chain: Any) -> None:
    layers = keras.layers
    first, second = layers.LSTM(4, return_sequences=True, name="first"), layers.LSTM(4, name="second")
    path = saved(randomised(keras.Sequential([keras.Input((5, 3)), first, second])))
    module, rename = chain(("both", nn.LSTM(3, 4, num_layers=2))), {"first": "both/l0", "second": "both/l1"}
    bridge.load(module, path, rename=rename)
    assert verify(module, path, rename=rename).ok
    module.state_dict()["both.bias_hh_l1"].add_(1)
    assert verdicts(verify(module, path, rename=rename)) == {"first": "same", "second": "differs"}


def test_every_row_of_an_embedding_is_proved(keras: Any, network: Any) -> None:
    module, path = network((5,), ("words", keras.layers.Embedding(7, 3), nn.Embedding(7, 3)))
    assert verify(module, path).ok
    module.state_dict()["words.weight"][6, 2] += 1
    assert not verify(module, path).ok


@pytest.mark.parametrize("window", [1, (6, 5)])
def test_a_dense_layer_as_a_convolution_is_proved(keras: Any, network: Any, window: Any) -> None:
    layers = keras.layers
    flat = window == (6, 5)
    module, path = network(
        (6, 5, 4),
        ("", layers.Flatten() if flat else layers.ReLU(), nn.Identity() if flat else nn.ReLU()),
        ("fc", layers.Dense(3), nn.Conv2d(4, 3, window)),
    )
    report = verify(module, path)
    assert report.ok, str(report)
    weight = module.state_dict()["fc.weight"]
    weight.copy_(weight.flip(1))
    assert not verify(module, path).ok
