"""Weights from elsewhere into a model: the only place that knows the bridge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import bridge

from .errors import ConvaeError
from .files import write_whole
from .models import Model
from .models.preprocessing import Preprocess

Plan = bridge.Plan
VERSION = bridge.__version__


def load_weights(module: Model, path: Path, strict: bool = False) -> Plan:
    """Load a Keras or PyTorch weights file by name, and take over the preprocessing it is known to expect.

    With `strict` a file that leaves anything out, on either side, is refused.
    """
    try:
        source = bridge.read(path)
        plan = bridge.load(module, source, strict=strict)
    except bridge.BridgeError as error:
        raise ConvaeError(str(error)) from error
    expected = source.preprocessing
    if expected and expected != bridge.preprocessing.MODES.get(expected.mode):
        raise ConvaeError(
            f"{path} expects {expected}, which no model here applies. Give weights for images as published."
        )
    if expected:
        module.preprocessing = Preprocess(expected.mode)
    return plan


def save_model(module: nn.Module, path: Path, header: dict[str, str]) -> None:
    """A module's state as .safetensors; the header says how to build it again, and which version wrote it."""
    # Tied and strided tensors are written out plainly, as the format wants them.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    write_whole(path, lambda beside: save_file(tensors, beside, {"version": VERSION, **header}))


def read_header(path: Path) -> dict[str, Any]:
    """What `save_model` wrote into the header."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ConvaeError(f"{path} is damaged ({error}). Start the run over with --fresh.") from error


def recorded_options(path: Path) -> dict[str, Any]:
    """The options of the model in a file that `save_model` wrote; none for any other weights file."""
    try:
        return dict(json.loads(read_header(path)["options"]))
    except (ConvaeError, KeyError, ValueError):
        return {}
