"""The places of a module that weights can go to, each under its Keras name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from . import names
from .errors import BridgeError
from .layouts import COUNTERS, KINDS, Layout, kind_of_module
from .source import Shape


@dataclass(frozen=True)
class Slot:
    """One parameter or buffer: its full name, its layer's path, and its Keras weight where the kind has one."""

    target: str
    layer: str
    parameter: str
    shape: Shape
    kind: str | None
    layout: Layout | None
    ordered: bool = False  # one value for each input of a flat layer, so that the inputs' order matters

    @property
    def counts(self) -> bool:
        """False for a counter that no output depends on."""
        return self.parameter not in COUNTERS


@dataclass(frozen=True)
class Places:
    """Every slot of a module, and what Keras calls its layers.

    `declared` is true where the module says so itself, through a `keras_layers` property
    {module path: Keras layer name}; its auto-numbered names are canonical, counted from zero.
    """

    slots: tuple[Slot, ...]
    keras_names: Mapping[str, str]
    declared: bool

    @property
    def kinds(self) -> dict[str, str]:
        """The Keras class of every layer that has one."""
        return {slot.layer: slot.kind for slot in self.slots if slot.kind}


def places(module: nn.Module, prefix: str = "", scheme: str | None = None) -> Places:
    """The slots of a module, or of its part below `prefix`."""
    module = getattr(module, "_orig_mod", module)  # torch.compile(module) wraps it
    prefix = prefix.strip(".")
    part = _part(module, prefix)
    slots = tuple(_slots(part, f"{prefix}." if prefix else ""))
    declared: Mapping[str, str] | None = getattr(part, "keras_layers", None)
    if declared is not None and scheme is None:
        return Places(slots, {path.replace(".", "/"): name for path, name in declared.items()}, declared=True)
    kinds = {slot.layer: slot.kind for slot in slots if slot.kind}
    chosen = names.scheme(scheme) if scheme else names.detect(kinds)
    return Places(slots, chosen.to_keras(kinds), declared=False)


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


def _slots(part: nn.Module, prefix: str) -> Iterator[Slot]:
    for path, layer in part.named_modules(remove_duplicate=False):
        kind = kind_of_module(layer)
        layouts = {layout.parameter: layout for layout in KINDS[kind]} if kind else {}
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for name, tensor in own:
            if name in layer._non_persistent_buffers_set:
                continue
            if nn.parameter.is_lazy(tensor):
                raise BridgeError(f"{prefix}{path}.{name} has no shape yet. Run the module once before loading.")
            target = f"{prefix}{path}.{name}" if path else f"{prefix}{name}"
            flat = isinstance(layer, nn.BatchNorm1d) or (kind == "Dense" and name == "weight")
            layout = layouts.get(name)
            yield Slot(target, path.replace(".", "/"), name, tuple(tensor.shape), kind, layout, bool(layout and flat))
