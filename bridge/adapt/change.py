"""What the adaptations share: a tensor with something done to it, and a configuration with something changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..architecture import CONTAINERS, KerasLayer, layers
from ..errors import BridgeError
from ..keras_files.changes import changed
from ..source import Array, Shape, Source, Stored

Compute = Callable[[Array], Array]
Entry = Mapping[str, Any]  # one layer of a configuration: its class_name, its config, and what feeds it


def computed(source: Source, key: str, how: str, shape: Shape, compute: Compute) -> Stored:
    """The tensor of that key after `compute`, which takes and gives float64; rounded once, to the tensor's own type.

    Refused: tensors of whole numbers, and when fetched a result that the type cannot hold.
    """
    stored = source.stored[key]
    if stored.dtype.startswith(("int", "uint")):
        raise BridgeError(f"{source.name}: {key} holds {stored.dtype}, whole numbers, which cannot be adapted.")

    def compute_all(array: Array) -> Array:
        return rounded(compute(array.astype(np.float64)), array.dtype, f"{source.name}: {key}")

    return moved(stored, how, shape, compute_all)


def moved(stored: Stored, how: str, shape: Shape, change: Compute) -> Stored:
    """The tensor after `change`, in its own type. It no longer lies anywhere in a file."""
    return replace(changed(stored, shape, change, how), region=None)


def rounded(values: Array, dtype: np.dtype[Any], what: str) -> Array:
    """The float64 values in that type; refused where they are beyond it."""
    with np.errstate(over="ignore"):
        result = np.require(values.astype(dtype), requirements=["C", "W"])
    if np.isinf(result).any() and np.isfinite(values).all():
        raise BridgeError(f"{what} does not fit into {dtype} any more. Save the weights as float32 first.")
    return result


def described(source: Source) -> tuple[KerasLayer, ...]:
    """The layers of the source's architecture; none where it has none, or one without a list of layers."""
    try:
        return layers(source.architecture)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BridgeError(f"{source.name}: its architecture is not one of Keras ({error!r}). Get it again.") from error


def configured(model: Entry | None, edits: Mapping[str, Callable[[Entry], Entry]], path: str = "") -> Entry | None:
    """A model's configuration with the layers and models of these paths edited; its own path is "".

    The given configuration stays as it is.
    """
    config = (model or {}).get("config")
    entries = config.get("layers") if isinstance(config, dict) else config
    if model is None or not isinstance(entries, list):
        return model
    edited = [_edited(entry, edits, f"{path}/" if path else "") for entry in entries]
    changed = {**model, "config": {**config, "layers": edited} if isinstance(config, dict) else edited}
    return edits[path](changed) if path in edits else changed


def _edited(entry: Any, edits: Mapping[str, Callable[[Entry], Entry]], prefix: str) -> Any:
    config = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(config, (dict, list)):
        return entry
    path = f"{prefix}{entry.get('name') or (config.get('name') if isinstance(config, dict) else '')}"
    if entry.get("class_name") in CONTAINERS:
        return configured(entry, edits, path)
    return edits[path](entry) if path in edits and isinstance(config, dict) else entry


def with_config(entry: Entry, **values: Any) -> Entry:
    """The layer with these values of its configuration, as far as it has them."""
    config = entry["config"]
    return {**entry, "config": {**config, **{key: value for key, value in values.items() if key in config}}}
