"""A trained run back as a module."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from .errors import ConvaeError
from .models import Model, create
from .models.preprocessing import Preprocess
from .weights import load_weights, read_header


def load(run: str | PathLike[str]) -> Model:
    """The trained network of a run's folder, in evaluation mode, with its preprocessing and `classes`."""
    path = Path(run) / "model.safetensors"
    header = read_header(path)
    try:
        options = json.loads(header["options"])
        if isinstance(options.get("size"), list):
            options["size"] = tuple(options["size"])
        model = create(header["model"], **options)
        model.preprocessing = Preprocess(header["preprocessing"])
        model.classes = tuple(json.loads(header["classes"]))
    except (KeyError, ValueError) as error:
        raise ConvaeError(f"{path} does not say which network it holds. Name the folder of a run.") from error
    load_weights(model, path)
    return model.eval()
