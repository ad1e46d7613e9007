"""Legacy Keras HDF5, Keras 1 to 3: weights only and whole models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import architecture, preprocessing, safe_h5
from .errors import BridgeError
from .source import Array, Source, Stored
from .spelling import spell

DECONVOLUTION = "deconvolution2d"  # Keras 1's name, which auto-named layers carry in weights-only files


def read(path: Path) -> Source:
    """Every weight of a legacy Keras file, in the model's order."""
    with safe_h5.opened(path) as file:
        weights = safe_h5.child(file, "model_weights", path) or file
        names = safe_h5.strings(weights.attrs, "layer_names")
        if names is None:
            raise BridgeError(_not_legacy(path, file))
        config = _config(path, file)
        kinds = architecture.kinds(config) if config else _named_kinds(names)
        # Keras 2 was the first to write its version with the weights, late Keras 1 wrote it with whole models.
        version = _attribute("keras_version", weights, file) or "1"
        backend = _attribute("backend", weights, file)
        stored: dict[str, Stored] = {}
        pages = safe_h5.Pages(path)
        for layer in names:
            _add_layer(stored, layer, weights, kinds, pages)
    source = Source(
        {key: _undo(key, tensor, version, backend, kinds) for key, tensor in stored.items()},
        format="keras-h5-model" if config else "keras-h5-weights",
        path=path,
        keras_version=version,
        backend=backend,
        architecture=config,
        kinds=kinds,
    )
    if not source:
        raise BridgeError(f"{path} is a Keras file without any weights: its layers are {names[:5]}.")
    return replace(source, preprocessing=_preprocessing(source))


def _not_legacy(path: Path, file: h5py.File) -> str:
    if "nb_layers" in file.attrs or "graph" in file:
        return f"{path} was written by Keras 0.x, which keeps no layer names. Load and save it with Keras 1 first."
    if "layers" in file or "_layer_checkpoint_dependencies" in file or "vars" in file:
        return f"{path} is a Keras 3 .weights.h5 file. Save the model as a whole instead: model.save('model.h5')."
    return f"{path} holds no Keras layers: its top level is {sorted(file)[:8]}."


def _config(path: Path, file: h5py.File) -> Mapping[str, Any] | None:
    if "model_config" not in file.attrs:
        return None
    try:
        config = json.loads(safe_h5.text(file.attrs["model_config"]))
    except (ValueError, RecursionError) as error:
        raise BridgeError(f"{path}: its model_config is not readable JSON. Get the file again.") from error
    return config if isinstance(config, dict) else None


def _attribute(name: str, *groups: h5py.Group) -> str | None:
    return next((safe_h5.text(group.attrs[name]) for group in groups if name in group.attrs), None)


def _add_layer(
    stored: dict[str, Stored], layer: str, weights: h5py.Group, kinds: Mapping[str, str], pages: safe_h5.Pages
) -> None:
    path = pages.path
    group = safe_h5.child(weights, layer, path)
    if not isinstance(group, h5py.Group):
        raise BridgeError(f"{path} lists the layer {layer!r} but does not hold it. Get the file again.")
    names = safe_h5.strings(group.attrs, "weight_names") or []
    tensors = []
    for name in names:
        dataset = safe_h5.child(group, name, path)
        if not isinstance(dataset, h5py.Dataset):
            raise BridgeError(f"{path}: layer {layer} lists the weight {name!r} but does not hold it.")
        tensors.append(safe_h5.stored(dataset, pages))
    within = f"{layer}/"
    children = [each.removeprefix(within) for each in kinds if each.startswith(within)] if layer in kinds else None
    for spelled, tensor in zip(spell(layer, names, [t.shape for t in tensors], children), tensors, strict=True):
        key = "/".join(part for part in (layer, spelled.inner, spelled.role) if part)
        if key in stored:
            raise BridgeError(f"{path}: two weights are both called {key}.")
        stored[key] = tensor


def _undo(key: str, tensor: Stored, version: str, backend: str | None, kinds: Mapping[str, str]) -> Stored:
    """The tensor as Keras 3 would have stored it."""
    layer, _, role = key.rpartition("/")
    if role != "kernel" or len(tensor.shape) < 3:
        return tensor
    if backend == "theano":  # its convolutions turn the kernel around; Keras 3 and PyTorch do not
        tensor = _changed(tensor, lambda array: np.flip(array, tuple(range(array.ndim - 2))))
    if version.split(".")[0] == "1" and kinds.get(layer) == "Conv2DTranspose" and len(tensor.shape) == 4:
        # Keras 1 stored (height, width, in, out) here, Keras 2 and 3 (height, width, out, in).
        tensor = _changed(tensor, lambda array: array.transpose(0, 1, 3, 2))
    return tensor


def _named_kinds(names: list[str]) -> dict[str, str]:
    """The classes that Keras 1's own names tell and shapes do not."""
    return {name: "Conv2DTranspose" for name in names if name.startswith(DECONVOLUTION)}


def _changed(tensor: Stored, change: Callable[[Array], Array]) -> Stored:
    shape = change(np.broadcast_to(np.float32(0), tensor.shape)).shape
    return Stored(shape, tensor.dtype, lambda: np.ascontiguousarray(change(tensor.fetch())))


def _preprocessing(source: Source) -> preprocessing.Preprocessing | None:
    first = next((key for key, shape in source.shapes.items() if len(shape) == 4), None)
    if first is None or source.shapes[first][2] != 3:
        return None
    return preprocessing.recognise(source[first])
