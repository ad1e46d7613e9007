"""Models and sources whose weights are changed before they are loaded, and what they give then."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import bridge
from bridge.source import Source

Draw = Callable[..., np.ndarray]
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def rebuilt(keras: Any, source: Source) -> Any:
    """The Keras model of the source's architecture, with the source's arrays; every one of them has its place."""
    model = keras.models.model_from_json(json.dumps(source.architecture))
    for key in source:
        *path, role = key.split("/")
        layer = model
        for name in path:
            layer = layer.get_layer(name)
        next(weight for weight in layer.weights if weight.name == role).assign(source[key])
    assert len(model.weights) == len(source)
    return model


def given(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False).detach().numpy())


def described(path: Path, model: Any) -> Source:
    """The file with the architecture as a .keras file words it, which is what Keras builds from."""
    return replace(bridge.read(path), architecture=json.loads(model.to_json()))


def same(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(other).max() > 1e-3
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def weights(numbers: Draw, *layers: tuple[str, int], given: int = 3) -> Source:
    """A weights-only source: convolutions (name, outputs), and normalisations, whose names hold bn, norm or "/n"."""
    arrays: dict[str, np.ndarray] = {}
    for name, width in layers:
        if any(word in name for word in ("bn", "norm")):
            arrays |= {f"{name}/{role}": np.abs(numbers(width)) + 0.5 for role in ROLES}
            arrays[f"{name}/moving_mean"] *= -1
        else:
            arrays |= {f"{name}/kernel": numbers(3, 3, given, width)}
            given = width
    return bridge.apply.source_of(arrays)
