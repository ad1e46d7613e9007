"""A weights file as a PyTorch weights file, under Keras or torchvision names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from . import names
from .atomic import replacing
from .errors import BridgeError
from .flatten import flattened, resolve
from .formats import read
from .layouts import KINDS, Transform, identity, kind_of_torch_weight, kind_of_weights
from .options import Flattened, Options, shortened
from .source import Source, split
from .version import VERSION


@dataclass(frozen=True)
class Conversion:
    """What became of each tensor: its new name and how it got there, or why it was left out."""

    path: Path
    converted: Mapping[str, tuple[str, Transform]]
    skipped: Mapping[str, str]


def convert(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    to: str = "keras",
    skip: str | Sequence[str] = (),
    flatten: Flattened | None = None,
) -> Conversion:
    """Write the weights of `source` to a .safetensors, .pt or .pth file, in PyTorch's axes.

    `to="keras"` names tensors after the file's own layers (`block1_conv1.weight`), `to="torchvision"`
    after torchvision's VGG (`features.0.weight`). The header of a .safetensors file tells where the
    weights came from. Refused: layer kinds that are not known, another ending, the source as destination.
    """
    given, path = read(source), Path(destination)
    write = _writer(path)
    if given.path and _same_file(path, given.path):
        raise BridgeError(f"{path} is the source itself. Name another destination.")
    options = Options(skip=(skip,) if isinstance(skip, str) else tuple(skip), flatten=flatten or {})
    options.check_skips([*given, *given.layers])
    options.check_flatten(list(given.layers))
    planned = _converted(given, names.scheme(to), options)
    _refuse_doubles(given, planned)
    tensors = {name: transform.apply(given[key]) for key, (name, transform) in planned.items()}
    with replacing(path) as beside:
        write(tensors, beside, metadata(given) | {"order": "\n".join(tensors)})
    skipped = {key: _reason(key, options, to) for key in given if key not in planned}
    return Conversion(path, planned, skipped)


def metadata(source: Source) -> dict[str, str]:
    """Where weights came from, for the header of a .safetensors file."""
    described = {
        "source_file": source.name,
        "source_sha256": _sha256(source.path) if source.path else None,
        "format": source.format,
        "keras_version": source.keras_version,
        "preprocessing": json.dumps(source.preprocessing.to_dict()) if source.preprocessing else None,
        "torch_convae_version": VERSION,
    }
    return {key: value for key, value in described.items() if value is not None}


def _converted(source: Source, scheme: names.Scheme, options: Options) -> dict[str, tuple[str, Transform]]:
    """The new name and the transform of every tensor that has a name in the scheme."""
    kinds = {layer: _kind(source, layer) for layer in source.layers if not options.skips([layer])}
    keras = names.detect(kinds).to_keras(kinds) if source.layout == "torch" else {layer: layer for layer in kinds}
    keras = {layer: keras.get(layer, layer) for layer in kinds}
    named = scheme.from_keras({keras[layer]: kind for layer, kind in kinds.items()})
    if not named:
        raise BridgeError(
            f"{source.name} holds no layer that {scheme.name} has a name for: it has {shortened(list(kinds))}."
        )
    flats = flattened(source) if source.layout == "keras" else {}
    planned: dict[str, tuple[str, Transform]] = {}
    for key, shape in source.shapes.items():
        layer, role = split(key)
        if options.skips([key, layer]) or keras[layer] not in named:
            continue
        parameter, transform = role, identity(shape)
        if source.layout == "keras":
            layout = next((layout for layout in KINDS[kinds[layer]] if layout.role == role), None)
            if layout is None:
                raise BridgeError(
                    f"{source.name}: {key} is no weight of a {kinds[layer]} layer. Leave it out with skip {key!r}."
                )
            ordered = kinds[layer] == "BatchNormalization" or (kinds[layer] == "Dense" and role == "kernel")
            flat = resolve(flats, options.flatten, layer, shape) if ordered else None
            parameter = layout.parameter
            transform = flat.with_axes(layout.axes) if flat else Transform(layout.axes)
        planned[key] = (f"{named[keras[layer]]}.{parameter}".replace("/", ".").lstrip("."), transform)
    return planned


def _refuse_doubles(source: Source, planned: Mapping[str, tuple[str, Transform]]) -> None:
    keys: dict[str, str] = {}
    for key, (name, _) in planned.items():
        if keys.setdefault(name, key) != key:
            raise BridgeError(f"{source.name}: {key} and {keys[name]} would both be called {name}. Skip one of them.")


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # there is no such file yet, or cannot be
        return False


def _kind(source: Source, layer: str) -> str:
    shapes = source.layers[layer]
    if source.layout == "torch":
        return kind_of_torch_weight(shapes.get("weight", ()))
    kind = kind_of_weights(shapes, source.kinds.get(layer))
    if kind is None:
        what = source.kinds.get(layer, f"a layer with {', '.join(shapes)}")
        raise BridgeError(
            f"{source.name}: {layer} is {what}, which is not known here. Leave it out with skip {layer!r}."
        )
    return kind


def _reason(key: str, options: Options, to: str) -> str:
    left_out = options.skips([key, split(key)[0]])
    return "left out by skip" if left_out else f"{to} has no name for it"


Writer = Callable[[dict[str, Tensor], Path, dict[str, str]], None]


def _writer(path: Path) -> Writer:
    writers = {".safetensors": _write_safetensors, ".pt": _write_pickled, ".pth": _write_pickled}
    if path.suffix not in writers:
        raise BridgeError(f"{path} should end in .safetensors, .pt or .pth.")
    return writers[path.suffix]


def _write_safetensors(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    try:
        save_file(tensors, path, header)
    except SafetensorError as error:  # a full disk, say
        raise OSError(str(error)) from error


def _write_pickled(tensors: dict[str, Tensor], path: Path, _: dict[str, str]) -> None:
    try:
        torch.save(tensors, path)
    except RuntimeError as error:
        raise OSError(str(error).split("\n")[0]) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
