"""What a file's architecture tells of the images that a network takes, beside what its weights tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..adapt.change import described
from ..adapt.first import first_convolutions
from ..architecture import KerasLayer, walk
from ..errors import BridgeError
from ..preprocessing import for_model_name
from ..source import Source


def image_notes(source: Source) -> list[str]:
    """That layers in front of a known first convolution take other images; else what a model's name hints at."""
    if source.layout != "keras" or source.architecture is None:
        return []
    try:
        found = described(source)
    except BridgeError:
        return []
    if source.preprocessing is not None:
        known = f"its first convolution is that of a network which expects {source.preprocessing}"
        return [f"{known}; {layer} in front of it takes the images here." for layer in _in_front(source, found)]
    for name in _names(source.architecture, found):
        if hint := for_model_name(name):
            return [f"a model in it is called {name}: Keras's of that name, with ImageNet's weights, expects {hint}."]
    return []


def _in_front(source: Source, found: tuple[KerasLayer, ...]) -> list[str]:
    """What changes the images before the first convolution, if anything does; at most one layer."""
    try:
        passed = first_convolutions(source).passed
    except BridgeError:  # they are put together of something else
        return ["what stands"]
    kinds = {path: layer.kind for path, layer in walk(found)}
    return [path for path in passed if kinds.get(path) == "Rescaling"][:1]


def _names(model: Any, found: tuple[KerasLayer, ...]) -> Iterator[str]:
    config = model.get("config")
    if isinstance(config, dict) and isinstance(config.get("name"), str):
        yield config["name"]
    yield from (layer.name for _, layer in walk(found) if layer.children)
