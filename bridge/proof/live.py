"""What the Keras model of a file gives, where Keras is installed."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..adapt.first import first_convolutions
from ..errors import BridgeError
from ..source import Array, Source
from .adapted import grey
from .outputs import Recorded

# Classes that run code of the file's, and the only places that others may come from.
CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"})
PLACES = "activations|constraints|dtype_policies|engine|initializers|layers|legacy|models|ops|regularizers"
_PLACE = re.compile(rf"builtins|keras(\.src)?(\.({PLACES})(\.\w+)*)?")
_FUNCTION = re.compile(r"\w+")
SIZES = (64, 96, 32)  # of an input that may have any; what nets halve divides them
SUFFIXES = {
    "keras-h5-model": ".h5",
    "keras-h5-weights": ".h5",
    "keras-v3-archive": ".keras",
    "keras-v3-weights": ".weights.h5",
}


def keras_outputs(source: Source, grey_images: bool = False) -> Recorded:
    """Random inputs of the model in a file, images grey if so asked, and what Keras gives for them, as it predicts.

    Refused: a file without a model, a model with code of its own (Lambda and its like, classes from other
    packages), an absent Keras, and what Keras does not open.
    """
    if source.path is None or source.architecture is None:
        raise BridgeError(
            f"{source.name} holds no Keras model to run. Record its outputs and give them as a reference."
        )
    for reason in _code(source.architecture.get("config")):
        raise BridgeError(f"{source.name}: {reason}, and code in a file is not run. Record its outputs instead.")
    keras = _keras()
    with warnings.catch_warnings():  # Keras's, of its own workings
        warnings.simplefilter("ignore")
        try:
            model = _opened(keras, source, source.path)
            if not getattr(model, "inputs", None):
                raise BridgeError(
                    f"{source.name} does not say which shape its model takes. Record its outputs instead."
                )
            inputs = [_random(tensor, at, model) for at, tensor in enumerate(model.inputs)]
            if grey_images:
                axis = first_convolutions(source).channels_axis
                inputs = [grey(array, axis) if array.ndim > 2 else array for array in inputs]
            given = model(inputs if len(inputs) > 1 else inputs[0], training=False)
            outputs = [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(given)]
        except BridgeError:
            raise
        except Exception as error:  # whatever Keras raises, it is the answer
            line = str(error).strip().split("\n")[0]
            raise BridgeError(f"Keras {keras.__version__} does not run {source.name}: {line}") from error
    return Recorded(f"Keras {keras.__version__}", inputs, outputs)


def _keras() -> Any:
    if not sys.modules.get("keras"):
        os.environ.setdefault("KERAS_BACKEND", "torch")  # the framework that is certainly here
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise BridgeError(
            f"Keras is not installed ({error}). Install it: pip install 'torch-convae[keras]'."
        ) from error


def _opened(keras: Any, source: Source, path: Path) -> Any:
    """The model; under a name that tells Keras the format, as Keras does not look into the file."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{SUFFIXES.get(source.format, '')}"
        if source.format in SUFFIXES:
            link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
        if source.format in ("keras-h5-model", "keras-v3-archive"):
            return keras.saving.load_model(link, compile=False, safe_mode=True)
        model = keras.models.model_from_json(json.dumps(source.architecture))
        model.load_weights(link if link.exists() else path)
        return model


def _random(tensor: Any, at: int, model: Any) -> Array:
    """Random numbers for one input: of a row's number where it goes into an Embedding."""
    sizes = iter(SIZES)
    shape = (2, *(next(sizes) if size is None else int(size) for size in tensor.shape[1:]))
    numbers = np.random.default_rng(at)
    rows = [layer.input_dim for layer in model.layers if hasattr(layer, "input_dim") and layer.input is tensor]
    if rows:
        return numbers.integers(0, min(rows), shape)
    return numbers.standard_normal(shape).astype(np.float32)


def _code(value: Any, depth: int = 0) -> Iterator[str]:
    """What in a configuration would have Keras run something that is not Keras's."""
    if depth > 100:
        yield "its configuration is nested too deep"
        return
    if isinstance(value, dict):
        kind, place = value.get("class_name"), value.get("module")
        if kind in CODE:
            yield f"it holds a {kind} layer"
        if isinstance(place, str) and not _PLACE.fullmatch(place):
            yield f"it names {place}.{kind}"
        if kind == "function" and not _FUNCTION.fullmatch(str(value.get("config"))):
            yield "it holds a function"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _code(each, depth + 1)
