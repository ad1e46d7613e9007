"""What the tests of the command line share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def file(written: Callable[..., Path], numbers: Callable[..., np.ndarray]) -> Path:
    """A convolution, a normalisation and a dense layer behind a Flatten of 2 x 2 x 4."""
    layers = {
        "conv": {"conv/kernel:0": numbers(3, 3, 1, 4), "conv/bias:0": numbers(4)},
        "bn": {f"bn/{role}:0": numbers(4) for role in ("gamma", "beta", "moving_mean", "moving_variance")},
        "fc": {"fc/kernel:0": numbers(16, 2), "fc/bias:0": numbers(2)},
    }
    return written(layers, keras_version="2.2.4", backend="tensorflow")
