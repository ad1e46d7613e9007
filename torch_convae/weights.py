"""Weights from elsewhere into a model: the only place that knows the bridge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.adapt.classes import classes as regroup
from bridge.matching.slots import places
from bridge.naming.names import scheme

from .errors import ConvaeError
from .files import write_whole
from .models import Model
from .models.preprocessing import Preprocess

Plan = bridge.Plan
Source = bridge.Source
VERSION = bridge.__version__
NewClasses = tuple[Sequence[str], Mapping[str, Sequence[str]]]


def load_weights(
    module: Model, path: Path, strict: bool = False, classes: NewClasses | None = None, skip: str = ""
) -> Plan:
    """Load a Keras or PyTorch weights file by name, and take over the preprocessing it is known to expect.

    With `strict` a file that leaves anything out, on either side, is refused. `classes` are the names of the
    file's classes, and which of them each of the module's is made of. What matches `skip` is left as it is.
    """
    source = read_weights(path)
    try:
        if classes:
            # Files of PyTorch do not hold their layers in order, so the last one is not the head.
            layer = head_path(module).replace(".", "/")
            source = regroup(source, *classes, layer if layer in source.layers else None)
        plan = bridge.load(module, source, strict=strict, skip=[skip] if skip else [])
    except bridge.BridgeError as error:
        # Several runs have a file of that name.
        raise ConvaeError(str(error).replace(f"{path.name}: ", f"{path}: ", 1)) from error
    expected = source.preprocessing
    if expected and expected != bridge.preprocessing.MODES.get(expected.mode):
        raise ConvaeError(
            f"{path} expects {expected}, which no model here applies. Give weights for images as published."
        )
    if expected:
        module.preprocessing = Preprocess(expected.mode)
    return plan


def head_path(module: nn.Module) -> str:
    """The layer that tells the classes apart: the last convolution or dense layer."""
    layers: list[str] = [path for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return layers[-1]


def read_weights(path: Path) -> Source:
    """A weights file as the bridge reads it: names, shapes and axes at once, each tensor when it is asked for."""
    try:
        return bridge.read(path)
    except bridge.BridgeError as error:
        raise ConvaeError(str(error)) from error


def fits(module: nn.Module, source: Source) -> bool:
    """Whether a weights file holds every tensor of the module, and none besides. Nothing is loaded."""
    return takes(module, source, strict=True)


def takes(module: nn.Module, source: Source, skip: str = "", strict: bool = False) -> bool:
    """Whether a weights file, or what of it does not match `skip`, goes into the module. Nothing is loaded."""
    try:
        return bool(bridge.match(source, module, skip=[skip] if skip else [], strict=strict).copied)
    except bridge.BridgeError:
        return False


def save_model(module: nn.Module, path: Path, header: dict[str, str]) -> None:
    """A module's state as .safetensors; the header says how to build it again, and which version wrote it."""
    # Tied and strided tensors are written out plainly, as the format wants them.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }

    def write(beside: Path) -> None:
        save_file(tensors, beside, {"version": VERSION, **header})
        _sort_notes(beside)

    write_whole(path, write)


def _sort_notes(path: Path) -> None:
    """Bring the notes of a header into order: the library writes them in another one every time."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


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


@dataclass(frozen=True)
class LayerName:
    """What a module with weights is called: its Keras class and name, and torchvision's name, if there is one."""

    kind: str
    keras: str | None
    torchvision: str | None


def layer_names(module: nn.Module) -> dict[str, LayerName]:
    """Path -> names, for every layer with weights of one of our models, or of a network as torchvision, timm,
    segmentation_models_pytorch or Caffe name it. Any other network's layers have no Keras name.
    """
    found = places(module)
    kinds = {keras: found.places[path].kinds[0] for path, keras in found.keras_names.items() if path in found.places}
    torchvision = scheme("torchvision").from_keras(kinds)
    known = found.declared or any(path != keras for path, keras in found.keras_names.items())
    return {
        place.module: LayerName(
            place.kinds[0],
            found.keras_names.get(path) if known else None,
            _dotted(torchvision.get(found.keras_names.get(path, ""))),
        )
        for path, place in found.places.items()
    }


def _dotted(path: str | None) -> str | None:
    return path.replace("/", ".") if path else None


def recorded_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes in a file that `save_model` wrote; none for any other weights file."""
    try:
        return tuple(json.loads(read_header(path)["classes"]))
    except (ConvaeError, KeyError, ValueError):
        return ()
