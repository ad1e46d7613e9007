"""Without an architecture names tell which normalisation follows which layer, or the caller does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted_models import weights
from torch import nn

import bridge
from bridge import adapt
from bridge.source import Source

Draw = Callable[..., np.ndarray]
Save = Callable[..., Path]


def pairs(source: Source, **more: Any) -> dict[str, str]:
    """Which layer each normalisation was folded into."""
    folded = adapt.fold_batch_norm(source, **more)
    return {
        stored.how.removesuffix(" folded in"): key.rpartition("/")[0]
        for key, stored in folded.stored.items()
        if stored.how and key.endswith(("/kernel", "/weight"))
    }


NAMED = {
    "X_bn": ([("a", 4), ("a_bn", 4)], {"a_bn": "a"}),
    "bn_X": ([("Conv1", 4), ("bn_Conv1", 4)], {"bn_Conv1": "Conv1"}),
    "X/bn": ([("a", 4), ("a/bn", 4)], {"a/bn": "a"}),
    "conv for bn": ([("b/conv", 4), ("b/bn", 4)], {"b/bn": "b/conv"}),
    "numbers": ([("conv1", 4), ("conv2", 4), ("bn1", 4), ("bn2", 4)], {"bn1": "conv1", "bn2": "conv2"}),
    "a residual block of keras.applications": (
        [("b1_0_conv", 4), ("b1_3_conv", 4), ("b1_0_bn", 4), ("b1_3_bn", 4)],
        {"b1_0_bn": "b1_0_conv", "b1_3_bn": "b1_3_conv"},
    ),
    "the first ResNet50": ([("res2a_branch2a", 4), ("bn2a_branch2a", 4)], {"bn2a_branch2a": "res2a_branch2a"}),
    "automatic": (
        [("conv2d", 4), ("batch_normalization", 4), ("conv2d_1", 4), ("batch_normalization_1", 4)],
        {"batch_normalization": "conv2d", "batch_normalization_1": "conv2d_1"},
    ),
    "a pre-activation network": ([("conv1", 4), ("bn1", 4), ("pre_bn", 4), ("conv2", 4)], {"bn1": "conv1"}),
    "a normalisation before its convolution": (
        [("conv0", 4), ("norm0", 4), ("b1/norm1", 4), ("b1/conv1", 4), ("b1/norm2", 4), ("b1/conv2", 4)],
        {"norm0": "conv0"},
    ),
    "another width": ([("conv1", 4), ("bn1", 4), ("conv2", 5), ("bn2", 9)], {"bn1": "conv1"}),
}


@pytest.mark.parametrize(("layers", "expected"), NAMED.values(), ids=NAMED.keys())
def test_without_an_architecture_names_tell_what_follows_what(
    layers: list[tuple[str, int]], expected: dict[str, str], numbers: Draw
) -> None:
    source = weights(numbers, *layers)
    assert pairs(source) == expected
    assert any("told by names and order alone" in note for note in adapt.fold_batch_norm(source).notes)


def test_names_that_tell_nothing_are_left_unless_they_are_paired_by_hand(numbers: Draw) -> None:
    source = weights(numbers, ("first", 4), ("normed", 4))
    with pytest.raises(bridge.BridgeError, match="neither its name nor the order of the layers says what it follows"):
        adapt.fold_batch_norm(source)
    assert pairs(source, pairs={"normed": "first"}) == {"normed": "first"}
    with pytest.raises(bridge.BridgeError, match=r"'first' is not a batch normalisation of as many channels"):
        adapt.fold_batch_norm(source, pairs={"first": "normed"})


def test_statistics_like_those_behind_a_relu_are_left_without_an_architecture(
    keras: Any, saved: Save, images: Draw
) -> None:
    """The activation inside a convolution is not in a weights-only file, but its traces are."""
    layers = keras.layers
    conv = layers.Conv2D(6, 3, activation="relu", name="a")
    model = keras.Sequential([keras.Input((7, 9, 3)), conv, layers.BatchNormalization(momentum=0.0, name="a_bn")])
    model(images(4, 7, 9, 3), training=True)
    source = bridge.read(saved(model, weights_only=True))
    with pytest.raises(bridge.BridgeError, match="a_bn: no moving mean is below 0, as behind a ReLU"):
        adapt.fold_batch_norm(source)
    assert pairs(source, pairs={"a_bn": "a"}) == {"a_bn": "a"}


def test_two_layers_in_front_are_refused_and_not_chosen_from(numbers: Draw) -> None:
    source = weights(numbers, ("conv2d", 4), ("conv2d_1", 4), ("batch_normalization", 4), ("batch_normalization_1", 4))
    message = "batch_normalization may follow conv2d_1 or conv2d, and nothing tells which"
    with pytest.raises(bridge.BridgeError, match=message):
        adapt.fold_batch_norm(source)
    by_hand = {"batch_normalization": "conv2d", "batch_normalization_1": "conv2d_1"}
    assert pairs(source, pairs=by_hand) == by_hand
    with pytest.raises(bridge.BridgeError, match="both seem to follow conv1"):
        adapt.fold_batch_norm(weights(numbers, ("conv1", 4), ("conv1_bn", 4), ("bn1", 4)))


def test_a_weights_only_file_gives_what_keras_gave(
    keras: Any, randomised: Any, saved: Save, images: Draw, assert_same: Any, chain: Any
) -> None:
    layers = keras.layers
    steps = [
        layers.Conv2D(8, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(9, 2),
        layers.BatchNormalization(),
    ]
    model = randomised(keras.Sequential([keras.Input((7, 9, 3)), *steps]))
    module = chain(("conv2d", nn.Conv2d(3, 8, 3)), ("", nn.ReLU()), ("conv2d_transpose", nn.ConvTranspose2d(8, 9, 2)))
    folded = adapt.fold_batch_norm(bridge.read(saved(model, weights_only=True)))
    bridge.load(module, folded, strict=True)
    assert_same(model, module, images(2, 7, 9, 3))
    assert any("epsilon; 0.001 was taken, the default" in note for note in folded.notes)
