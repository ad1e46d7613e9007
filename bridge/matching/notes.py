"""What names and shapes cannot settle and a user should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from ..flattening.computed import channels_first
from ..flattening.flatten import ranks_of
from ..layers.epsilon import APPLICATIONS, MODERN, default_epsilon, epsilon_of
from ..layers.layouts import RECURRENT
from ..layers.normalised import open_order
from ..layers.recurrent import computed_by_module, config_of, of_its_time, says_gates, usual_gates
from ..source import Source
from .slots import Place

NORMALISATIONS = frozenset({"BatchNormalization", "LayerNormalization", "GroupNormalization"})


def notes_on(source: Source, module: nn.Module, places: Mapping[str, Place], kinds: Mapping[str, str]) -> list[str]:
    """Where a module's layers may compute something else than the file's, with the same weights.

    `places` gives the place of each source layer that something is copied from, `kinds` Keras's classes.
    What holds for several layers alike is said once.
    """
    if source.layout != "keras":
        return []
    targets: dict[str, list[str]] = {}
    for layer, place in places.items():
        kind, part = kinds.get(layer, place.kinds[0]), module.get_submodule(place.module)
        found: Iterator[str] = iter(())
        if kind in NORMALISATIONS:
            found = _normalisation(source, layer, kind, part)
        elif kind in RECURRENT:
            found = _recurrent(source, layer, kind, part)
        elif source.kinds.get(layer) == "EinsumDense" and not config_of(source, layer).get("equation"):
            found = iter(["the weights of an EinsumDense, and the file does not say that it computes what Dense does."])
        for text in found:
            targets.setdefault(text, []).append(place.module)
    return [f"{_several(names)} {text}" for text, names in targets.items()]


def _several(names: list[str]) -> str:
    return f"{names[0]} has" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more have"


def _normalisation(source: Source, layer: str, kind: str, part: nn.Module) -> Iterator[str]:
    config, own = config_of(source, layer), getattr(part, "eps", MODERN)
    said, default = epsilon_of(source, layer), MODERN
    if kind == "BatchNormalization":
        default = default_epsilon(source, layer)
    if said is not None and own != said:
        yield f"eps={own:g}, the file epsilon={said:g}: outputs differ until it is set."
    elif said is None and own != default:
        usual = "these networks have" if default == APPLICATIONS else "Keras's default is"
        yield f"eps={own:g}; {usual} {default:g} and this file does not say."
    if kind == "LayerNormalization" and open_order(source, layer, source.layers[layer]):
        yield "one size along both of its axes, and nothing tells whether channels come first; they are taken to."
    if kind in ("BatchNormalization", "LayerNormalization") and (places := other_axis(source, layer)):
        yield f"a number for each channel, the file's for {places}: right only where the module turns the axes."
    momentum, mine = config.get("momentum"), getattr(part, "momentum", None)
    if isinstance(momentum, (int, float)) and mine is not None and abs(mine - (1 - momentum)) > 1e-9:
        yield f"momentum={mine:g}; the file's is {1 - momentum:g} as PyTorch counts it: only training differs."
    groups, own_groups = config.get("groups"), getattr(part, "num_groups", None)
    if isinstance(groups, int) and own_groups is not None and groups not in (-1, own_groups):
        yield f"{own_groups} groups, the file {groups}: outputs differ."
    if groups is None and kind == "GroupNormalization" and own_groups is not None:
        yield f"{own_groups} groups; this file does not say how many."


def other_axis(source: Source, layer: str) -> str:
    """Rows or columns normalised in the place of channels: an axis=1 that was meant for channels first, say."""
    axis = config_of(source, layer).get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    last = not isinstance(axis, int) or axis == -1 or axis > 2
    if last or any(map(channels_first, source.configs.values())):
        return ""
    rank = ranks_of(source).get(layer)
    return "" if rank is None or axis % rank == rank - 1 else f"each place along axis {axis % rank} of {rank}"


def _recurrent(source: Source, layer: str, kind: str, part: nn.Module) -> Iterator[str]:
    backwards = config_of(source, layer).get("go_backwards")
    if backwards is True and not (getattr(part, "go_backwards", False) or getattr(part, "bidirectional", False)):
        yield "no go_backwards, and the file's layer has: right only where the module turns its steps round."
    if backwards is False and getattr(part, "go_backwards", False):
        yield "go_backwards, and the file's layer goes forwards: outputs differ."
    mine, usual = computed_by_module(part)["recurrent_activation"], usual_gates(source, layer, kind)
    if says_gates(source, layer, kind) or mine == usual or (usual is None and source.version is None):
        return
    yield f"{mine} gates; {of_its_time(source, layer, kind)}"
