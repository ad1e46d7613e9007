"""A trained run back as a module."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from .errors import ConvaeError
from .models import Model, create
from .models.preprocessing import Preprocess
from .training import Folder
from .weights import load_weights, read_header

NO_RUN = "Name the folder of a run."


def load(run: str | PathLike[str]) -> Model:
    """The trained network of a run's folder, in evaluation mode, with its preprocessing and `classes`."""
    path = Path(run) / "model.safetensors"
    if not path.exists():
        known = "The run is not complete; start it again to finish it." if Folder(Path(run)).begun else NO_RUN
        raise ConvaeError(f"{path} does not exist. {known}")
    header = read_header(path)
    try:
        options = json.loads(header["options"])
        if isinstance(options.get("size"), list):
            options["size"] = tuple(options["size"])
        model = create(header["model"], **options)
        model.preprocessing = Preprocess(header["preprocessing"])
        model.classes = tuple(json.loads(header["classes"]))
    except (KeyError, ValueError, TypeError, AttributeError, ConvaeError) as error:
        raise ConvaeError(f"{path} does not say which network it holds. {NO_RUN}") from error
    load_weights(model, path, strict=True)
    return model.eval()
