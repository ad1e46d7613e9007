"""Where Keras 3 saves each layer of a configuration: "layers/conv2d_1" for the second Conv2D of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .saved import CELLS, LAYERS
from .variables import is_own, snake


@dataclass(frozen=True)
class Configured:
    """A layer as the configuration has it, and the layers in it by their place in the file, in the model's order.

    `own` is whether its class is the user's own, whatever it is called.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    parts: Mapping[str, Configured]
    own: bool = False


def configured(model: Mapping[str, Any] | None) -> Configured | None:
    """A model's configuration; None where it lists no layers, as that of a subclassed model."""
    if not model or not isinstance(model.get("config"), dict) or not isinstance(model["config"].get("layers"), list):
        return None
    return _configured(model)


def _configured(entry: Mapping[str, Any]) -> Configured:
    given = entry.get("config")
    config = given if isinstance(given, dict) else {}
    kind = str(entry.get("class_name", "")).rpartition(">")[2]  # a registered class is "package>class"
    name = str(entry.get("name") or config.get("name") or "")
    lists = ((LAYERS, config.get("layers")), (CELLS, config.get("cells")))
    parts = {local: _configured(inner) for within, entries in lists for local, inner in _counted(within, entries)}
    return Configured(name, kind, config, parts | dict(_wrapped(kind, config)), is_own(entry))


def _counted(within: str, entries: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The layers of a list, numbered by class. Operations stand among them and are not layers."""
    counts: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or ".ops." in str(entry.get("module")):
            continue
        kind = snake(str(entry.get("class_name", "")).rpartition(">")[2])
        counts[kind] = count = counts.get(kind, -1) + 1
        yield f"{within}/{kind}_{count}" if count else f"{within}/{kind}", entry


def _wrapped(kind: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Configured]]:
    """What an RNN or a wrapper holds: the parts of its cell, its layer, or both directions, named as Keras does."""
    given = {key: config.get(key) for key in ("cell", "layer", "backward_layer")}
    inner = {key: _configured(entry) for key, entry in given.items() if isinstance(entry, dict)}
    if "cell" in inner:  # a recurrent layer and its cell are one
        yield from inner.pop("cell").parts.items()
    if kind == "Bidirectional" and "layer" in inner:
        forward = inner.pop("layer")
        name = forward.name.removeprefix("forward_")
        yield "forward_layer", replace(forward, name=f"forward_{name}")
        yield "backward_layer", inner.pop("backward_layer", replace(forward, name=f"backward_{name}"))
    yield from inner.items()
