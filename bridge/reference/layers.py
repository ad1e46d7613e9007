"""Keras's layers that neither slide a window nor remember: dense, normalisations, PReLU, embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..source import Array

Weights = Mapping[str, Array]
EPSILON = 1e-3


def dense(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:  # noqa: ARG001 - as all layers
    """Dense: over the last axis, whatever the rank."""
    sums = inputs @ weights["kernel"]
    return sums + weights["bias"] if "bias" in weights else sums


def batch_normalization(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """BatchNormalization as it predicts: with the moving statistics."""
    axes = _axes(inputs, config.get("axis", -1))
    mean, variance = (_along(inputs, weights[role], axes) for role in ("moving_mean", "moving_variance"))
    return _scaled((inputs - mean) / np.sqrt(variance + config.get("epsilon", EPSILON)), weights, axes)


def layer_normalization(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """LayerNormalization: over its axes together, one mean and variance for each of the other positions."""
    axes = _axes(inputs, config.get("axis", -1))
    return _scaled(_normalised(inputs, axes, config), weights, axes)


def group_normalization(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """GroupNormalization: over all positions and one group of neighbouring channels; -1 is a group a channel."""
    channels = inputs.shape[-1]
    groups = config.get("groups", 32)
    grouped = inputs.reshape(*inputs.shape[:-1], channels if groups == -1 else groups, -1)
    axes = (*range(1, inputs.ndim - 1), grouped.ndim - 1)
    return _scaled(_normalised(grouped, axes, config).reshape(inputs.shape), weights, (inputs.ndim - 1,))


def prelu(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:  # noqa: ARG001
    """PReLU: a slope for each position, or one for all along axes of size 1."""
    return np.where(inputs > 0, inputs, weights["alpha"] * inputs)


def embedding(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:  # noqa: ARG001
    """Embedding: a row for each number."""
    return np.asarray(weights["embeddings"][inputs.astype(np.int64)])


def _axes(inputs: Array, axis: Any) -> tuple[int, ...]:
    given = axis if isinstance(axis, (list, tuple)) else [axis]
    return tuple(sorted(each % inputs.ndim for each in given))


def _along(inputs: Array, weight: Array, axes: tuple[int, ...]) -> Array:
    """A weight that meets the inputs at its axes."""
    return weight.reshape([size if axis in axes else 1 for axis, size in enumerate(inputs.shape)])


def _normalised(inputs: Array, axes: tuple[int, ...], config: Mapping[str, Any]) -> Array:
    mean, variance = inputs.mean(axes, keepdims=True), inputs.var(axes, keepdims=True)
    return np.asarray((inputs - mean) / np.sqrt(variance + config.get("epsilon", EPSILON)))


def _scaled(normalised: Array, weights: Weights, axes: tuple[int, ...]) -> Array:
    if "gamma" in weights:
        normalised = normalised * _along(normalised, weights["gamma"], axes)
    return normalised + _along(normalised, weights["beta"], axes) if "beta" in weights else normalised
