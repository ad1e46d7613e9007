""".safetensors, .pt and .pth files, and state dicts in memory."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import preprocessing
from .errors import BridgeError
from .source import Array, Source, Stored

# What training frameworks put around a state dict, outermost first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# What torch.compile and DistributedDataParallel put before every name.
ADDED_PREFIXES = ("_orig_mod.", "module.")

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"} | {
    f"{sign}{bits}": f"{word}{bits}" for sign, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


def read_safetensors(path: Path) -> Source:
    """Every tensor of a .safetensors file, and what its header says of where it came from."""
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            described = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise BridgeError(f"{path} is not a whole .safetensors file ({error}). Get the file again.") from error
    stored = {
        _key(name): Stored(shape, DTYPES.get(dtype, dtype), _fetcher(path, name))
        for name, (shape, dtype) in sorted(described.items(), key=_model_order(header))
    }
    return Source(
        _without_prefix(stored),
        format="safetensors",
        layout="torch",
        path=path,
        keras_version=header.get("keras_version"),
        preprocessing=_preprocessing(header),
    )


def read_pickled(path: Path) -> Source:
    """Every tensor of a .pt or .pth file. Only tensors and plain values are unpickled, nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of pickle protocols and of checks that take long: nothing a user can change
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        unsafe = isinstance(error, pickle.UnpicklingError)  # torch's text advises to run what is in the file
        reason = "it holds more than tensors and plain values" if unsafe else str(error).split("\n")[0]
        raise BridgeError(
            f"{path} is not a whole file of weights ({reason}). Save a state dict: torch.save(m.state_dict(), path)."
        ) from error
    tensors = _tensors(content)
    if not tensors:
        raise BridgeError(f"{path} holds no tensors by name. Save a state dict: torch.save(model.state_dict(), path).")
    return from_state_dict(tensors, path)


def from_state_dict(tensors: Mapping[str, Tensor], path: Path | None = None) -> Source:
    """A state dict as a source."""
    stored = {_key(name): _of_tensor(tensor) for name, tensor in tensors.items()}
    return Source(_without_prefix(stored), format="torch" if path else "state dict", layout="torch", path=path)


def _tensors(content: Any) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        return {}
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _key(name: str) -> str:
    layer, _, parameter = name.rpartition(".")
    return f"{layer.replace('.', '/')}/{parameter}" if layer else parameter


def _without_prefix(stored: dict[str, Stored]) -> dict[str, Stored]:
    for prefix in (added.replace(".", "/") for added in ADDED_PREFIXES):
        if stored and all(key.startswith(prefix) for key in stored):
            return _without_prefix({key.removeprefix(prefix): tensor for key, tensor in stored.items()})
    return stored


def _model_order(header: Mapping[str, str]) -> Callable[[tuple[str, Any]], Any]:
    """The format sorts names as text (conv2d_10 before conv2d_2); our own files say the model's order."""
    order = {name: rank for rank, name in enumerate(header.get("order", "").split("\n"))}

    def rank(item: tuple[str, Any]) -> tuple[int, list[tuple[int, str]]]:
        pieces = re.split(r"(\d+)", item[0])
        natural = [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
        return order.get(item[0], len(order)), natural

    return rank


def _of_tensor(tensor: Tensor) -> Stored:
    name = str(tensor.dtype).removeprefix("torch.")
    return Stored(tuple(tensor.shape), name, lambda: _numpy(tensor))


def _fetcher(path: Path, name: str) -> Any:
    def fetch() -> Array:
        with safe_open(path, framework="pt") as file:
            return _numpy(file.get_tensor(name))

    return fetch


def _numpy(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16 and no float8; float32 holds every one of them.
    narrow = tensor.dtype == torch.bfloat16 or (tensor.is_floating_point() and tensor.itemsize < 2)
    try:
        return np.asarray((tensor.float() if narrow else tensor).numpy())
    except (TypeError, RuntimeError) as error:
        raise BridgeError(f"A tensor of {tensor.layout} and {tensor.dtype} cannot be read. Save it dense.") from error


def _preprocessing(header: Mapping[str, str]) -> preprocessing.Preprocessing | None:
    try:
        return preprocessing.from_dict(json.loads(header["preprocessing"]))
    except (KeyError, ValueError, TypeError):
        return None
