"""Networks that are loaded, with their file: what proofs are tried on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import bridge

Loaded = tuple[nn.Module, Path]


@pytest.fixture
def network(keras: Any, randomised: Any, saved: Any, chain: Any) -> Callable[..., Loaded]:
    """Layers of Keras and of PyTorch by name, the second with the first's weights, and the file these are from."""

    def build(size: tuple[int, ...], *steps: tuple[str, Any, nn.Module], weights_only: bool = False) -> Loaded:
        layers = [layer for _, layer, _ in steps]
        for name, layer, _ in steps:
            layer.name = name or layer.name
        model = randomised(keras.Sequential([keras.Input(size), *layers]))
        path = saved(model, weights_only=weights_only)
        module = chain(*((name, layer) for name, _, layer in steps))
        bridge.load(module, path)
        return module, path

    return build


@pytest.fixture
def small(keras: Any, network: Callable[..., Loaded]) -> Loaded:
    """A network with a kind of each mistake to make: square kernels, equal channels, a Flatten."""
    layers = keras.layers
    return network(
        (6, 5, 4),
        ("conv_a", layers.Conv2D(4, 3, padding="same", activation="relu"), nn.Conv2d(4, 4, 3, padding=1)),
        ("conv_b", layers.Conv2D(4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1)),
        ("norm", layers.BatchNormalization(), nn.BatchNorm2d(4, eps=1e-3)),
        ("", layers.Flatten(), nn.Flatten()),
        ("fc", layers.Dense(3), nn.Linear(120, 3)),
    )
