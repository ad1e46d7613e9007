"""Legacy HDF5, weights only: what Keras's load_weights('x.h5') takes, by order or by name."""

from __future__ import annotations

import io
from collections.abc import Mapping

import h5py
import numpy as np
from torch import Tensor

from ..keras_files.keras_h5 import TOP_LEVEL

LIMIT = 64512  # bytes of an attribute; HDF5 has no more room, and Keras splits a longer list

# A writer has to say which Keras wrote the file, lest a loader takes it for one of Keras 1.
WRITTEN_AS = {"keras_version": b"2.15.0", "backend": b"tensorflow"}


def content(layers: Mapping[str, Mapping[str, Tensor]]) -> memoryview:
    """A whole file in memory: HDF5 does not survive a full disk.

    `layers` are {layer: {"inner/role": array}}, with "" for what the model has beside its layers.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _list(file, "layer_names", [layer for layer in layers if layer])
        for name, value in WRITTEN_AS.items():
            file.attrs[name] = value
        for layer, weights in layers.items():
            group = file.require_group(layer or TOP_LEVEL)
            paths = [f"{layer or TOP_LEVEL}/{weight}:0" for weight in weights]
            _list(group, "weight_names", paths)
            for path, tensor in zip(paths, weights.values(), strict=True):
                group[path] = tensor.numpy()
    return buffer.getbuffer()


def _list(group: h5py.Group, name: str, values: list[str]) -> None:
    """A list of names as an attribute, or as several where it is too long for one, as Keras splits it."""
    encoded = [value.encode() for value in values]
    parts = 1
    while parts <= len(encoded) and any(np.array(part).nbytes > LIMIT for part in np.array_split(encoded, parts)):
        parts += 1
    if parts == 1:
        group.attrs[name] = encoded
    else:
        for index, part in enumerate(np.array_split(encoded, parts)):
            group.attrs[f"{name}{index}"] = part
