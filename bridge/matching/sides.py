"""A source beside a module: which place each of its layers finds there, and what it is called for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..flattening.flatten import Maps, maps_of
from ..options import Options, renamed
from ..source import Shape, Source, split
from .inside import Model, model_for
from .pairing import LayerShapes, kind_of_layer, paths_by_name, paths_by_order, refuse_unknown, unnamed
from .slots import Places, places


@dataclass(frozen=True)
class Sides:
    """The source and the module, and the place that each layer of the source finds."""

    source: Source
    module: nn.Module
    options: Options
    places: Places
    current: Mapping[str, str]  # source key -> its name after rename, and without the model that it is inside
    inside: Model | None  # the one of the source's models that the module is
    paths: Mapping[str, str]  # layer name after rename -> path of its place
    kinds: Mapping[str, str]  # layer name after rename -> Keras class, where it has a place
    maps: Maps


def paired(source: Source, module: nn.Module, options: Options) -> Sides:
    """The layers of both sides, paired by name or by order. Options that say something of nothing are refused."""
    refuse_unknown(options.by)
    where = places(module, options.prefix, options.names)
    options.check_skips([*source, *source.layers, *(slot.target for slot in where.slots)])
    options.check_flatten(source.layers)
    current = renamed(source, options.rename)
    layers, inside = _layers(source, current), None
    if options.by == "order":
        paths = paths_by_order(layers, source, where, options, type(module).__name__)
    else:
        paths = paths_by_name(layers, source.layout, where)
        kept = [split(name)[0] for key, name in current.items() if not options.skips((key, split(key)[0]))]
        inside = model_for(list(dict.fromkeys(kept)), paths, where, source.name)
    if inside:
        current = {key: _own_name(inside, name) for key, name in current.items()}
        layers = _layers(source, current)
        paths = paths_by_name(layers, source.layout, where)
    if options.by != "order" and source.layout == "keras":
        paths |= unnamed(layers, paths, where)
    kinds: dict[str, str] = {}
    parts: dict[str, nn.Module] = {}
    if source.layout == "keras":
        originals = {split(name)[0]: split(key)[0] for key, name in current.items()}
        for layer, path in paths.items():
            if path in where.places:
                kind = kind_of_layer(source, originals[layer], layers[layer], where.places[path])
                kinds |= {layer: kind} if kind else {}
                parts[originals[layer]] = module.get_submodule(where.places[path].module)
    return Sides(source, module, options, where, current, inside, paths, kinds, maps_of(source, parts))


def _own_name(model: Model, name: str) -> str:
    layer, role = split(name)
    return f"{model.names.get(layer, layer)}/{role}".lstrip("/")


def _layers(source: Source, current: Mapping[str, str]) -> LayerShapes:
    found: dict[str, dict[str, Shape]] = {}
    for key, name in current.items():
        layer, role = split(name)
        found.setdefault(layer, {})[role] = source.shapes[key]
    return found
