"""The forms of file that Keras saves a model in, and modules whose parts have the names of its layers."""

from pathlib import Path
from typing import Any

from torch import nn

FORMS = ["whole", "weights", ".weights.h5", ".keras"]


def file_of(model: Any, form: str, saved: Any, folder: Path) -> Path:
    """The model's file of that form; `saved` is the fixture that writes legacy ones."""
    if form in ("whole", "weights"):
        path: Path = saved(model, weights_only=form == "weights")
        return path
    path = folder / f"model{form}"
    model.save_weights(path) if form == ".weights.h5" else model.save(path)
    return path


def tree(**parts: nn.Module) -> nn.Module:
    """Modules by the names of their attributes."""
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module
