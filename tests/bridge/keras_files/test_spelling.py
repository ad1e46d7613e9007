"""Names of weights as each Keras wrote them, brought to Keras 3's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bridge
from bridge.keras_files.spelling import spell

MATRIX, VECTOR = (3, 4), (4,)
RECURRENT = ["kernel", "recurrent_kernel", "bias"]
GATED = [f"{letter}_{gate}" for gate in "zrh" for letter in "WUb"]


def spelled(layer: str, names: list[str], children: list[str] | None = None, shapes: Any = None) -> list[str]:
    found = spell(layer, names, shapes or [MATRIX] * len(names), children)
    return ["/".join(part for part in (each.inner, each.role) if part) for each in found]


SPELLED: dict[str, tuple[str, list[str], list[str] | None, list[str]]] = {
    "Keras 1": ("gru_1", [f"gru_1_{role}:0" for role in GATED], None, GATED),
    "Keras 1, used before": ("gru", [f"gru_{role}_2:0" for role in GATED], None, GATED),
    "Keras 1 on Theano": ("gru_1", [f"gru_1_{role}" for role in GATED], [], GATED),
    "Keras 1, one product for all gates": ("lstm_1", [f"lstm_1_{role}:0" for role in "WUb"], None, RECURRENT),
    "Keras 1, both ways": (
        "bidirectional_1",
        [f"{way}_gru_2_{role}:0" for way in ("forward", "backward") for role in GATED],
        None,
        [f"{way}_gru_2/{role}" for way in ("forward", "backward") for role in GATED],
    ),
    "Keras 1, both ways, configured": (
        "bi",
        [f"{way}_gru_2_{role}:0" for way in ("forward", "backward") for role in GATED],
        [],
        [f"{way}_gru_2/{role}" for way in ("forward", "backward") for role in GATED],
    ),
    "Keras 1, over time": ("td", ["dense_2_W:0", "dense_2_b:0"], [], ["kernel", "bias"]),
    "Keras 1, a recurrent layer in a model": (
        "inner",
        ["conv_W:0", "conv_b:0", *(f"gru_1_{role}:0" for role in GATED)],
        ["conv", "gru_1"],
        ["conv/kernel", "conv/bias", *(f"gru_1/{role}" for role in GATED)],
    ),
    "Keras 1, a highway": (
        "highway_1",
        ["highway_1_W:0", "highway_1_W_carry:0", "highway_1_b:0", "highway_1_b_carry:0"],
        None,
        ["kernel", "W_carry", "bias", "b_carry"],
    ),
    "Keras 1, layers called by a letter": ("b", ["b_W:0", "b_b:0"], None, ["kernel", "bias"]),
    "Keras 2": ("gru_1", [f"gru_1/{role}:0" for role in RECURRENT], None, RECURRENT),
    "tf.keras": ("gru", [f"gru/gru_cell/{role}:0" for role in RECURRENT], None, RECURRENT),
    "tf.keras, a later cell": ("gru", [f"gru/gru_cell_3/{role}:0" for role in RECURRENT], [], RECURRENT),
    "tf.keras, renamed": ("mine", [f"gru/gru_cell_3/{role}:0" for role in RECURRENT], None, RECURRENT),
    "Keras 2, both ways": (
        "bi",
        [f"bi/{way}_lstm_1/{role}:0" for way in ("forward", "backward") for role in RECURRENT],
        None,
        [f"{way}_lstm_1/{role}" for way in ("forward", "backward") for role in RECURRENT],
    ),
    "tf.keras, both ways": (
        "bi",
        [
            f"bi/{way}_lstm/lstm_cell_{5 + number}/{role}:0"
            for number, way in enumerate(("forward", "backward"))
            for role in RECURRENT
        ],
        [],
        [f"{way}_lstm/{role}" for way in ("forward", "backward") for role in RECURRENT],
    ),
    "tf.keras, both ways in a model": (
        "inner",
        [f"bi/{way}_gru/gru_cell/{role}:0" for way in ("forward", "backward") for role in RECURRENT],
        ["bi"],
        [f"bi/{way}_gru/{role}" for way in ("forward", "backward") for role in RECURRENT],
    ),
    "tf.keras, stacked cells": (
        "rnn_1",
        [f"rnn_1/stacked_rnn_cells/lstm_cell_{number}/{role}:0" for number in (1, 2) for role in RECURRENT],
        None,
        [f"lstm_cell_{number}/{role}" for number in (1, 2) for role in RECURRENT],
    ),
    "tf.keras, one cell": ("rnn", [f"rnn/lstm_cell/{role}:0" for role in RECURRENT], None, RECURRENT),
    "tf.keras, a cell in a model": (
        "inner",
        ["dense/kernel:0", *(f"gru/gru_cell_1/{role}:0" for role in RECURRENT)],
        ["dense", "gru"],
        ["dense/kernel", *(f"gru/{role}" for role in RECURRENT)],
    ),
    "Keras 2, over time": ("td", ["td/kernel:0", "td/bias:0"], None, ["kernel", "bias"]),
    "Keras 3, over time": (
        "td_dense",
        ["td_dense/dense/kernel", "td_dense/dense/bias"],
        None,
        ["dense/kernel", "dense/bias"],
    ),
    "Keras 3": ("gru", [f"gru/gru_cell/{role}" for role in RECURRENT], None, RECURRENT),
    "a depthwise convolution": ("d", ["d/depthwise_kernel:0", "d/bias:0"], None, ["depthwise_kernel", "bias"]),
}


@pytest.mark.parametrize("case", SPELLED)
def test_every_keras_means_the_same_weights(case: str) -> None:
    layer, names, children, expected = SPELLED[case]
    assert spelled(layer, names, children) == expected


def test_cells_that_keras_2_stacked_without_names_are_told_apart() -> None:
    lstm, gru = [(3, 12), (3, 12), (12,)], [(3, 15), (5, 15), (15,)]
    names = [f"rnn_1/{role}{number}:0" for number in ("", "_1", "_2") for role in RECURRENT]
    found = spelled("rnn_1", names, None, [*lstm, *gru, *gru])
    assert found == [f"{cell}/{role}" for cell in ("lstm_cell", "gru_cell", "gru_cell_1") for role in RECURRENT]
    without = [name for name in names if "bias" not in name or name == "rnn_1/bias_1:0"]
    found = spelled("rnn_1", without, None, [*lstm[:2], *gru, *gru[:2]])
    assert found[2:5] == [f"gru_cell/{role}" for role in RECURRENT]
    assert found[5:] == ["gru_cell_1/kernel", "gru_cell_1/recurrent_kernel"]


NAMELESS: dict[str, tuple[list[tuple[int, ...]], list[str]]] = {
    "a convolution": ([(3, 3, 2, 4), VECTOR], ["kernel", "bias"]),
    "a normalisation": ([VECTOR] * 4, ["gamma", "beta", "moving_mean", "moving_variance"]),
    "a simple one": ([(3, 4), (4, 4), (4,)], RECURRENT),
    "a fused one": ([(3, 12), (4, 12), (12,)], RECURRENT),
    "a gru": ([(3, 4), (4, 4), (4,)] * 3, GATED),
    "a gru both ways": (
        [(3, 4), (4, 4), (4,)] * 6,
        [f"{way}_layer/{role}" for way in ("forward", "backward") for role in GATED],
    ),
    "a simple one both ways": (
        [(3, 4), (4, 4), (4,)] * 2,
        [f"{way}_layer/{role}" for way in ("forward", "backward") for role in RECURRENT],
    ),
    "what is not known": ([(3, 4), (4, 4), (5,)], ["param_0", "param_1", "param_2"]),
}


@pytest.mark.parametrize("case", NAMELESS)
def test_weights_without_names_are_told_by_their_shapes(case: str) -> None:
    shapes, expected = NAMELESS[case]
    assert spelled("layer", [f"param_{number}" for number in range(len(shapes))], None, shapes) == expected


def test_keras_3_files_keep_every_weight_under_today_s_name(
    keras: Any, saved: Callable[..., Path], randomised: Callable[..., Any]
) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((7,)),
            layers.Embedding(9, 4, name="words"),
            layers.Conv1D(5, 3, name="line"),
            layers.GRU(6, return_sequences=True, name="gru"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="bi"),
            layers.TimeDistributed(layers.Dense(5), name="td"),
            layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(5)]), name="stack"),
            layers.Dense(3, name="head"),
        ]
    )
    randomised(model)
    for weights_only in (False, True):
        source = bridge.read(saved(model, f"{weights_only}.h5", weights_only=weights_only))
        assert list(source.layers) == [
            "words",
            "line",
            "gru",
            "bi/forward_lstm",
            "bi/backward_lstm",
            "td/dense",
            "stack/lstm_cell",
            "stack/gru_cell",
            "head",
        ]
        for stored, weight in zip(source.values(), model.weights, strict=True):
            np.testing.assert_array_equal(stored, weight.value.detach().numpy())


PARTS = st.sampled_from(
    ["gru", "gru_1", "rnn", "lstm_cell", "lstm_cell_1", "stacked_rnn_cells", "kernel", "kernel_1", "b"]
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.sampled_from(
    ["gru_1_W_z:0", "W", "_b", "param_0", ""]
)


@settings(deadline=None, max_examples=200)
@given(
    weights=st.lists(st.tuples(NAMES, st.lists(st.integers(0, 3), max_size=4).map(tuple)), max_size=8),
    children=st.none() | st.lists(NAMES, max_size=3),
)
def test_any_names_at_all_are_spelled(weights: list[tuple[str, tuple[int, ...]]], children: list[str] | None) -> None:
    names, shapes = [name for name, _ in weights], [shape for _, shape in weights]
    assert len(spell("rnn", names, shapes, children)) == len(names)
