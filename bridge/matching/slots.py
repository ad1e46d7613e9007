"""The places of a module that weights can go to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import BridgeError
from ..layers.layouts import COUNTERS, RECURRENT, kinds_of_module
from ..naming import names
from ..source import Shape

_RECURRENT = re.compile(r"(?P<role>(weight|bias)_[ih]h)_l(?P<level>\d+)(?P<backward>_reverse)?")
_SEPARABLE: dict[type[nn.Module], str] = {nn.Conv1d: "SeparableConv1D", nn.Conv2d: "SeparableConv2D"}


@dataclass(frozen=True)
class Slot:
    """One parameter or buffer: its full name, the path of the module that holds it, its own name, its shape."""

    target: str
    layer: str
    parameter: str
    shape: Shape

    @property
    def counts(self) -> bool:
        """False for a counter that no output depends on."""
        return self.parameter not in COUNTERS


@dataclass(frozen=True)
class Place:
    """What one Keras layer can fill: usually a module, for a bidirectional or stacked nn.LSTM a part of one,
    for a separable convolution two.

    `slots` are by the names of the layouts table. `vector` says that the module takes one value for each
    input of a flat layer, so that the inputs' order matters.
    """

    path: str
    kinds: tuple[str, ...]
    slots: Mapping[str, Slot]
    module: str
    vector: bool = False


@dataclass(frozen=True)
class Places:
    """Every slot of a module, the places they form, and what Keras calls them.

    `declared` is true where the module says so itself, through a `keras_layers` property
    {module path: Keras layer name}; its auto-numbered names are canonical, counted from zero. `tied` is the first
    path of each place whose module stands at several.
    """

    slots: tuple[Slot, ...]
    places: Mapping[str, Place]
    keras_names: Mapping[str, str]
    declared: bool
    tied: Mapping[str, str]

    @cached_property
    def by_path(self) -> Mapping[tuple[str, str], Slot]:
        """Every slot by the path of its module and its own name."""
        return {(slot.layer, slot.parameter): slot for slot in self.slots}


def places(module: nn.Module, prefix: str = "", scheme: str | None = None) -> Places:
    """The slots of a module, or of its part below `prefix`."""
    module = getattr(module, "_orig_mod", module)  # torch.compile(module) wraps it
    if isinstance(module, torch.jit.ScriptModule):
        raise BridgeError(
            f"{type(module).__name__} is a scripted or traced module, whose layers do not tell what they are. Load "
            f"into the module that it was made of, and script that."
        )
    prefix = prefix.strip(".")
    part = _part(module, prefix)
    start = f"{prefix}." if prefix else ""
    slots: list[Slot] = []
    found: dict[str, Place] = {}
    firsts: dict[tuple[int, str], str] = {}
    tied: dict[str, str] = {}
    for path, layer in part.named_modules(remove_duplicate=False):
        own = list(_slots(layer, path, start))
        slots += own
        for place in _places(layer, path, own, start):
            found[place.path] = place
            tied[place.path] = firsts.setdefault((id(layer), place.path[len(path) :]), place.path)
    declared: Mapping[str, str] | None = getattr(part, "keras_layers", None)
    if declared is not None and scheme is None:
        return Places(tuple(slots), found, {_slashed(path): name for path, name in declared.items()}, True, tied)
    kinds = {path: place.kinds[0] for path, place in found.items() if not place.kinds[0].startswith("Separable")}
    chosen = names.scheme(scheme) if scheme else names.detect(kinds)
    return Places(tuple(slots), found, chosen.to_keras(kinds), False, tied)


def unlike_keras(module: nn.Module) -> str:
    """What a module says that it computes beside its layers (`unlike_keras`), for which Keras has no place, or ""."""
    return str(getattr(getattr(module, "_orig_mod", module), "unlike_keras", ""))


def tensor_of(module: nn.Module, target: str) -> Tensor:
    """The parameter or buffer of that name."""
    owner, _, parameter = target.rpartition(".")
    found = getattr(getattr(module, "_orig_mod", module).get_submodule(owner), parameter)
    assert isinstance(found, Tensor)
    return found


def _part(module: nn.Module, prefix: str) -> nn.Module:
    try:
        return module.get_submodule(prefix)
    except AttributeError as error:
        paths = [path for path, _ in module.named_modules() if path]
        near = get_close_matches(prefix, paths, n=3) or paths[:5]
        raise BridgeError(f"{type(module).__name__} has no part {prefix!r}; it has {', '.join(near)}.") from error


def _slots(layer: nn.Module, path: str, start: str) -> Iterator[Slot]:
    for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        if name in layer._non_persistent_buffers_set:
            continue
        target = f"{start}{path}.{name}" if path else f"{start}{name}"
        if nn.parameter.is_lazy(tensor):
            raise BridgeError(f"{target} has no shape yet. Run the module once before loading.")
        yield Slot(target, _slashed(path), name, tuple(tensor.shape))


def _places(layer: nn.Module, path: str, own: list[Slot], start: str) -> Iterator[Place]:
    kinds, at, module = kinds_of_module(layer), _slashed(path), f"{start}{path}"
    if not own and path:
        yield from _separable(layer, path, start)
    elif kinds and kinds[0] in RECURRENT:
        yield from _recurrent(kinds, at, own, module)
    elif kinds:
        vector = isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm, nn.PReLU))
        yield Place(at, kinds, {slot.parameter: slot for slot in own}, module, vector)


def _recurrent(kinds: tuple[str, ...], path: str, own: list[Slot], module: str) -> Iterator[Place]:
    """One place for each level and direction: "lstm", "lstm/forward", "lstm/l1", "lstm/l1/backward"."""
    parts: dict[tuple[str, str | None], dict[str, Slot]] = {}
    for slot in own:
        if name := _RECURRENT.fullmatch(slot.parameter):
            parts.setdefault((name["level"], name["backward"]), {})[name["role"]] = slot
    levels, directions = {level for level, _ in parts}, {backward for _, backward in parts}
    for (level, backward), slots in parts.items():
        at = f"{path}/l{level}" if len(levels) > 1 else path
        if len(directions) > 1:
            at += "/backward" if backward else "/forward"
        yield Place(at.lstrip("/"), kinds, slots, module)


def _separable(layer: nn.Module, path: str, start: str) -> Iterator[Place]:
    """A container of a depthwise convolution and one over single positions computes Keras's one layer."""
    inner = [(name, child) for name, child in layer.named_children() if any(True for _ in child.parameters())]
    if len(inner) != 2:
        return
    (first, depthwise), (second, pointwise) = inner
    kind = _SEPARABLE.get(type(depthwise))
    if kind is None or type(pointwise) is not type(depthwise):
        return
    assert isinstance(depthwise, (nn.Conv1d, nn.Conv2d))
    assert isinstance(pointwise, (nn.Conv1d, nn.Conv2d))
    if depthwise.groups != depthwise.in_channels or set(pointwise.kernel_size) != {1} or pointwise.groups != 1:
        return
    slots = {f"depthwise.{slot.parameter}": slot for slot in _slots(depthwise, f"{path}.{first}", start)}
    slots |= {f"pointwise.{slot.parameter}": slot for slot in _slots(pointwise, f"{path}.{second}", start)}
    yield Place(_slashed(path), (kind,), slots, f"{start}{path}")


def _slashed(path: str) -> str:
    return path.replace(".", "/")
