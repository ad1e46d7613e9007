"""A trained run back as a module."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import ConvaeError
from .models import MODELS, Model, create
from .models.dropout import set_dropout
from .models.preprocessing import Preprocess
from .training import Folder
from .weights import VERSION, load_weights, read_header

NO_RUN = "Name the folder of a run."


def load(run: str | PathLike[str]) -> Model:
    """The trained network of a run's folder, in evaluation mode.

    It has the run's preprocessing, `classes`, and `image_size`, that of the images it was trained on. A run
    that a newer version wrote is refused, and one of an older version that this one cannot build.
    """
    path = Path(run) / "model.safetensors"
    if not path.exists():
        known = "The run is not complete; start it again to finish it." if Folder(Path(run)).begun else NO_RUN
        raise ConvaeError(f"{path} does not exist. {known}")
    return load_model(path)


def load_model(path: Path) -> Model:
    """The trained network in a `model.safetensors`, wherever it lies."""
    header = read_header(path)
    if _parts(header.get("version", "")) > _parts(VERSION):
        raise ConvaeError(_other_version(path, header))
    try:
        options = json.loads(header["options"])
        if isinstance(options.get("size"), list):
            options["size"] = tuple(options["size"])
        model = create(header["model"], **options)
        model.preprocessing = Preprocess(header["preprocessing"])
        model.classes = tuple(json.loads(header["classes"]))
        set_dropout(model, json.loads(header.get("dropout", "null")))
        height, width = json.loads(header.get("image_size", "[0, 0]"))
        model.image_size = (int(height), int(width)) if height else None
    except (KeyError, ValueError, TypeError, AttributeError, ConvaeError) as error:
        if header.get("version", VERSION) != VERSION:
            raise ConvaeError(_other_version(path, header)) from error
        raise ConvaeError(f"{path} does not say which network it holds. {NO_RUN}") from error
    _refuse_other_classes(path, model, _outputs(header["model"], options))
    load_weights(model, path, strict=True)
    return model.eval()


def _outputs(name: str, options: Mapping[str, Any]) -> int | None:
    """How many classes, or values, a network of that name and options gives; None where it gives neither."""
    known = inspect.signature(MODELS[name]).parameters
    return next(
        (options.get(option, known[option].default) for option in ("classes", "outputs") if option in known), None
    )


def _refuse_other_classes(path: Path, model: Model, outputs: int | None) -> None:
    if model.classes and outputs and len(model.classes) != outputs:
        raise ConvaeError(
            f"{path} names {len(model.classes)} classes ({', '.join(map(str, model.classes))}), but its network gives "
            f"{outputs}. Take the file as training wrote it."
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _other_version(path: Path, header: Mapping[str, str]) -> str:
    return (
        f"{path} was written by torch-convae {header['version']}, and this is {VERSION}, which does not know such a "
        f"run. Install version {header['version']}."
    )
