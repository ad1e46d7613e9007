"""A network that Keras may hold in several forms: its layers one after the other, or in models inside models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .auto_names import auto_prefix, canonical

# What holds other layers. Where Keras named it by itself, its name says nothing of what they are.
CONTAINERS = frozenset({"time_distributed", "functional", "sequential"})


def places_of(layers: Sequence[str], declared: Mapping[str, str]) -> dict[str, str]:
    """The path in the module of each layer of a file; `declared` are the module's names, by path.

    A file has them as declared, one after the other; or by the parts of the module that they are in, as
    "encoder/conv2d". Both are counted anew, in each model for itself. The first form of which every layer is
    there is the file's; where none is whole, the one of which the most are.
    """
    best: dict[str, str] = {}
    for given, own in _forms(layers, declared):
        by_name = {name: path for path, name in own.items()}
        found = {layer: by_name[name] for layer, name in given.items() if name in by_name}
        if set(found.values()) == set(declared):
            return found
        if len(found) > len(best):
            best = found
    return best


def _forms(layers: Sequence[str], declared: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Names of the file's layers, and the module's by path, that may be the same."""
    nested = canonical(declared)
    for own in (declared, nested):
        yield canonical(layers), own
        bare = {layer: _bare(layer) for layer in layers}
        if any("/" in layer for layer in layers) and len(set(bare.values())) == len(bare):
            ranks = canonical(bare.values())
            yield {layer: ranks[name] for layer, name in bare.items()}, own


def _bare(layer: str) -> str:
    """A layer's path without the models around it that Keras named."""
    *models, name = layer.split("/")
    return "/".join([*(model for model in models if auto_prefix(model) not in CONTAINERS), name])
