"""A nest of tensors and plain values as one .safetensors file with a digest: nothing in it is ever run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

TENSOR = "\0tensor"  # no key of a nest begins so


def write_archive(nest: Mapping[str, Any], path: Path) -> None:
    """Write dicts and lists of tensors, numbers, texts, booleans and None. Keys are texts without a slash."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(nest, "", tensors))
    save_file(tensors, path, {"nest": text, "sha256": _digest(text, tensors)})


def read_archive(path: Path) -> dict[str, Any] | None:
    """What `write_archive` wrote, bit for bit and on the CPU; None for what is damaged, cut short or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = notes["nest"]
        if _digest(text, tensors) != notes["sha256"]:
            return None
        nest = _with_tensors(json.loads(text), tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
    return nest if isinstance(nest, dict) else None


def finite(nest: Any) -> bool:
    """Whether every number in every tensor of a nest is finite."""
    if isinstance(nest, Tensor):
        return not nest.is_floating_point() or bool(nest.isfinite().all())
    if isinstance(nest, Mapping):
        return all(map(finite, nest.values()))
    return all(map(finite, nest)) if isinstance(nest, list | tuple) else True


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A plain copy only where it is needed: the format knows no strides and no shared memory.
        tensors[place] = value.detach().cpu().contiguous()
        return {TENSOR: place}
    if isinstance(value, Mapping):
        return {key: _without_tensors(each, f"{place}/{key}".lstrip("/"), tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(each, f"{place}/{index}", tensors) for index, each in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if TENSOR in value:
            return tensors[value[TENSOR]]
        return {key: _with_tensors(each, tensors) for key, each in value.items()}
    return [_with_tensors(each, tensors) for each in value] if isinstance(value, list) else value


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
