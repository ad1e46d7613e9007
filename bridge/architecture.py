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
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}


@dataclass(frozen=True)
class Reference:
    """A tensor, by the layer that gives it out, at which of its calls and as which output.

    Keras 3 says its shape, with the batch; None where nothing does.
    """

    layer: str
    call: int
    output: int
    shape: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a configuration. `children` are the layers of a nested model.

    `calls` has what it is given each time that it is used, `inputs` the layers that all of this comes from.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    children: tuple[KerasLayer, ...]
    calls: tuple[tuple[Reference, ...], ...] = ()


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
        found.append(_layer(entry, found[-1].name if sequential and found else None))
    return tuple(found)


def wrapped(layer: KerasLayer) -> KerasLayer | None:
    """The layer that a wrapper applies, as TimeDistributed does; None where there is none."""
    entry = layer.config.get("layer")
    return _layer(entry, None) if isinstance(entry, dict) and isinstance(entry.get("config"), (dict, list)) else None


def walk(found: tuple[KerasLayer, ...], prefix: str = "") -> Iterator[tuple[str, KerasLayer]]:
    """Every layer with its path, "outer/inner" for those of nested models and for what TimeDistributed applies."""
    for layer in found:
        yield prefix + layer.name, layer
        inner = wrapped(layer) if layer.kind == "TimeDistributed" else None
        yield from walk(layer.children if inner is None else (inner,), f"{prefix}{layer.name}/")


def kinds(model: Mapping[str, Any] | None) -> dict[str, str]:
    """The Keras class of every layer by its path, in today's names."""
    return {path: layer.kind for path, layer in walk(layers(model))}


def references(node: Any) -> Iterator[Reference]:
    """The tensors that something is made of, from Keras 1's nested lists or Keras 3's tensor records."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            layer, call, output = node["config"]["keras_history"]
            shape = node["config"].get("shape")
            yield Reference(str(layer), int(call), int(output), tuple(shape) if isinstance(shape, list) else None)
        else:
            for value in node.values():
                yield from references(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            yield Reference(*node[:3])
        else:
            for value in node:
                yield from references(value)


def _layer(entry: Mapping[str, Any], before: str | None) -> KerasLayer:
    """One layer; `before` is the one in front of it in a Sequential model."""
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    kind, nodes = str(entry.get("class_name", "")), entry.get("inbound_nodes")
    calls = tuple(tuple(references(node)) for node in (nodes if isinstance(nodes, list) else ()))
    if not any(calls):
        calls = ((Reference(before, 0, 0),),) if before is not None else ()
    return KerasLayer(
        name=str(entry.get("name") or config.get("name") or ""),
        kind=KERAS_1_CLASSES.get(kind, kind),
        config=config,
        inputs=tuple(reference.layer for call in calls for reference in call),
        children=layers(entry) if kind in CONTAINERS else (),
        calls=calls,
    )
