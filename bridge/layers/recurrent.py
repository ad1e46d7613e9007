"""What a recurrent layer of a file computes, and whether a module computes that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import rnn
from ..naming.auto_names import DEEPEST
from ..source import Source
from .directions import side_of
from .layouts import RECURRENT, kind_of_weights

OURS = (rnn.SimpleRNN, rnn.LSTM, rnn.GRU)
TORCH = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
HARD_GATES_UNTIL = (2, 3)  # from 2.3.0 on the gates of LSTM and GRU are sigmoid where nothing else is said
TORCH_NAMES = {"SimpleRNN": "RNN", "LSTM": "LSTM", "GRU": "GRU"}


def refusal(source: Source, layer: str, kind: str, module: nn.Module) -> str | None:
    """Why the module cannot compute what the layer does, in one sentence with the way out; None where it can."""
    if kind not in RECURRENT:
        return None
    theirs, mine = computed_by_layer(source, layer, kind), computed_by_module(module)
    for name, value in theirs.items():
        if value is not None and mine.get(name) != value:
            usual = {"recurrent_activation": usual_gates(source, layer, kind)} if kind != "SimpleRNN" else {}
            said = {key: usual.get(key) if said is None else said for key, said in theirs.items()}
            right = ", ".join(f"{key}={value!r}" for key, value in said.items() if value is not None)
            return (
                f"{layer} computes with {name}={value!r}, and {type(module).__name__} with {mine.get(name)!r}. "
                f"Build it as bridge.rnn.{kind}(input_size, hidden_size, {right}), or skip {layer!r}."
            )
    return None


def special(source: Source) -> list[str]:
    """A sentence for each recurrent layer that torch.nn cannot compute, with the module that can."""
    found = []
    for layer, shapes in source.layers.items():
        kind = kind_of_weights(shapes, source.kinds.get(layer)) if source.layout == "keras" else None
        if kind in RECURRENT:
            said = {name: value for name, value in computed_by_layer(source, layer, kind).items() if value is not None}
            if any(TORCH[name] != value for name, value in said.items() if value != "relu" or kind != "SimpleRNN"):
                right = ", ".join(f"{name}={value!r}" for name, value in said.items())
                other = f"torch.nn.{TORCH_NAMES[kind]}"
                found.append(f"{layer} computes what {other} cannot: load it into bridge.rnn.{kind}(..., {right}).")
            elif not says_gates(source, layer, kind) and usual_gates(source, layer, kind) == "hard_sigmoid":
                found.append(f"{layer} has gates: {of_its_time(source, layer, kind)}")
    return found


def computed_by_layer(source: Source, layer: str, kind: str) -> dict[str, Any]:
    """The activations and gate order of a Keras layer; None for what the file does not say."""
    if layer in source.cudnn:
        return {name: value for name, value in TORCH.items() if name != "reset_after" or kind == "GRU"}
    config = config_of(source, layer)
    said: dict[str, Any] = {"activation": _name(config.get("activation"), source)}
    if kind != "SimpleRNN":
        gates = config.get("recurrent_activation") or config.get("inner_activation")  # Keras 1's word
        said["recurrent_activation"] = _name(gates, source)
    if kind == "GRU":
        bias = source.layers[layer].get("bias")
        known = config.get("reset_after", False if config else None)
        said["reset_after"] = (len(bias) == 2) if bias else known
    return said


def usual_gates(source: Source, layer: str, kind: str) -> str | None:
    """The activation that gates have where a file does not say: Keras's own of the time; None where that is open."""
    version = source.version or ((3,) if source.format.startswith("keras-v3") else None)
    if version is None:
        return None
    twofold = len(source.layers[layer].get("bias", ())) == 2  # reset_after=True, which TensorFlow 2 has by itself
    if "-tf" in (source.keras_version or "") and version < HARD_GATES_UNTIL:  # TensorFlow 1, or 2.0 and 2.1
        return "sigmoid" if kind == "GRU" and twofold else None
    if version < HARD_GATES_UNTIL:
        return None if twofold else "hard_sigmoid"  # it was made to be like CuDNN's, which wants other gates
    return "sigmoid"


def says_gates(source: Source, layer: str, kind: str) -> bool:
    """Whether the file tells what its gates compute; a SimpleRNN has none."""
    return kind == "SimpleRNN" or computed_by_layer(source, layer, kind)["recurrent_activation"] is not None


def of_its_time(source: Source, layer: str, kind: str) -> str:
    """What gates a layer has that the file does not tell of, in one sentence."""
    usual, keras = usual_gates(source, layer, kind), f"Keras {source.keras_version or 3}'s {kind}"
    if usual is None:
        return f"{keras} may have hard_sigmoid or sigmoid ones, and this file does not say."
    return (
        f"{keras} has {usual} ones unless something else is said, and this file does not say. "
        f"bridge.rnn.{kind}(..., recurrent_activation={usual!r}) has them."
    )


def computed_by_module(module: nn.Module) -> dict[str, Any]:
    """The same of a module: torch's own compute in one way only."""
    if isinstance(module, OURS):
        return {name: getattr(module, name, None) for name in TORCH}
    return TORCH | {"activation": getattr(module, "nonlinearity", TORCH["activation"])}


def config_of(source: Source, layer: str) -> Mapping[str, Any]:
    """The configuration of a layer, where the file has one; that of the layer or cell inside what applies it."""
    known = source.configs
    parts = layer.split("/", DEEPEST)
    for depth in range(len(parts), 0, -1):
        if config := known.get("/".join(parts[:depth])):
            inside = parts[depth:]
            backward = bool(inside) and side_of(inside[0]) == "backward"
            return {} if "layers" in config else _computing(config, backward, parts[-1])
    return {}


def _computing(config: Mapping[str, Any], backward: bool, name: str) -> Mapping[str, Any]:
    """What a wrapper applies, or an RNN repeats; the second layer of a Bidirectional may have its own.

    Of several cells in one RNN it is that of this name; none where they are called otherwise.
    """
    config = (_inner(config, "backward_layer") if backward else None) or _inner(config, "layer") or config
    cell = _inner(config, "cell")
    if cell is None or not isinstance(cells := cell.get("cells"), list):
        return cell or config
    configs = [each["config"] for each in cells if isinstance(each, dict) and isinstance(each.get("config"), dict)]
    return next((each for each in configs if each.get("name") == name), {})


def _inner(config: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    entry = config.get(key)
    inner = entry.get("config") if isinstance(entry, dict) else None
    return inner if isinstance(inner, dict) else None


def _name(activation: Any, source: Source) -> str | None:
    """An activation's name; hard_sigmoid means two functions, by Keras's version."""
    if isinstance(activation, dict):  # Keras 3 writes some as objects
        activation = (
            activation.get("config") if isinstance(activation.get("config"), str) else activation.get("class_name")
        )
    if not isinstance(activation, str):
        return None
    modern = (source.keras_version or "").split(".")[0] == "3"
    return "hard_sigmoid_3" if activation == "hard_sigmoid" and modern else activation
