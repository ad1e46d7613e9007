"""What a Keras configuration says of a model: its layers, their classes, how they are connected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CONTAINERS = frozenset({"Model", "Functional", "Sequential"})

# Keras 1's class names. All else kept its name.
KERAS_1_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a configuration. `children` are the layers of a nested model."""

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    children: tuple[KerasLayer, ...]


def layers(model: Mapping[str, Any] | None) -> tuple[KerasLayer, ...]:
    """The layers of a model's configuration, in order; none where it is not one."""
    config = (model or {}).get("config")
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list):
        return ()
    sequential = (model or {}).get("class_name") == "Sequential"
    found: list[KerasLayer] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), (dict, list)):
            continue
        before = (found[-1].name,) if sequential and found else ()
        found.append(_layer(entry, before))
    return tuple(found)


def walk(found: tuple[KerasLayer, ...], prefix: str = "") -> Iterator[tuple[str, KerasLayer]]:
    """Every layer with its path, "outer/inner" for those of nested models."""
    for layer in found:
        yield prefix + layer.name, layer
        yield from walk(layer.children, f"{prefix}{layer.name}/")


def kinds(model: Mapping[str, Any] | None) -> dict[str, str]:
    """The Keras class of every layer by its path, in today's names."""
    return {path: layer.kind for path, layer in walk(layers(model))}


def _layer(entry: Mapping[str, Any], before: tuple[str, ...]) -> KerasLayer:
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    kind = str(entry.get("class_name", ""))
    return KerasLayer(
        name=str(entry.get("name") or config.get("name") or ""),
        kind=KERAS_1_CLASSES.get(kind, kind),
        config=config,
        inputs=tuple(_tensors(entry.get("inbound_nodes"))) or before,
        children=layers(entry) if kind in CONTAINERS else (),
    )


def _tensors(node: Any) -> Iterator[str]:
    """The layers that feed one, from Keras 1's nested lists or Keras 3's tensor records."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            yield str(node["config"]["keras_history"][0])
        else:
            for value in node.values():
                yield from _tensors(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            yield node[0]
        else:
            for value in node:
                yield from _tensors(value)
