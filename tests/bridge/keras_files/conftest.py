"""What the tests of Keras's files share."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model in one of Keras 3's formats."""

    def write(model: Any, form: str, name: str = "model", **options: Any) -> Path:
        path = tmp_path / f"{name}.{form}"
        with warnings.catch_warnings():  # Keras's, of its own variables
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
            if form == "keras":
                model.save(path, **options)
            elif form == "weights.json":
                model.save_weights(path, **{"max_shard_size": 1.0, **options})
            else:
                model.save_weights(path)
        return path

    return write
