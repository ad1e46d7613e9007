"""The layers of a network by name: what each gives, before or after which activation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import prod

from torch import Tensor, nn

from ..errors import ConvaeError
from ..weights import LayerName, layer_names
from .kinds import ACTIVATION, activation
from .names import Namer, following
from .trace import Link, trace

NORMALISATION = "BatchNormalization"
PRE = ":pre"
FOLLOWED = (ACTIVATION, "MaxPooling2D", "AveragePooling2D")  # torchvision has a name for these, too


@dataclass(frozen=True)
class Layer:
    """One tensor that a network computes, of `shape` for one input: (C, H, W), or (C,); a time in front.

    A Keras name stands for what Keras's layer of that name gives, its activation included; what it gives
    before that is called NAME:pre. `activation` says "after relu" or "before relu", and nothing where there
    is none. `others` are names of the same: the module's path, torchvision's. `flattened` is the map
    (C, H, W) that a vector is made of, channel by channel. `step` is its place in the forward, whose numbers
    may have their channels last; `channels_first` gives those of a map as `shape` says.
    """

    name: str
    others: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    step: int
    activation: str = ""
    flattened: tuple[int, ...] | None = None
    channels_last: bool = False

    def channels_first(self, maps: Tensor) -> Tensor:
        """What the step gave, (N, C, H, W) for maps."""
        return maps.movedim(-1, -3) if self.channels_last else maps

    @property
    def size(self) -> int:
        """How many values it has for one input."""
        return prod(self.shape)


def layers(model: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """Every layer of the model in the order of its forward, for inputs of this shape: (C, H, W) for images.

    Nothing is computed. A shape that the model cannot take is refused.
    """
    namer = _Naming(trace(model, shape), layer_names(model))
    for step in range(len(namer.links)):
        namer.add(step)
    last = getattr(getattr(model, "activation", None), "__name__", "")
    found = [layer for layer in namer.layers if layer]
    if last and found:
        found[-1] = replace(found[-1], activation=f"{found[-1].activation} before {last}".strip())
    names = {layer.name for layer in found}
    return [
        replace(layer, others=tuple(other for other in dict.fromkeys(namer.others[layer.step]) if other not in names))
        for layer in found
    ]


def find(known: Sequence[Layer], name: str) -> Layer:
    """The layer of that name, or the only one whose path ends so; an unknown name is refused with the nearest."""
    by_name = {other: layer for layer in known for other in layer.others} | {layer.name: layer for layer in known}
    if name in by_name:
        return by_name[name]
    ending = {layer.step: layer for other, layer in by_name.items() if other.endswith(f".{name}")}
    if len(ending) == 1 and name:
        return next(iter(ending.values()))
    names = [layer.name for layer in known]
    near = get_close_matches(name, names, n=3) or get_close_matches(name, list(by_name), n=3) or names[-3:]
    raise ConvaeError(f"There is no layer {name!r}; the nearest are {', '.join(near)}. --list shows all.")


@dataclass
class _Naming:
    links: Sequence[Link]
    known: Mapping[str, LayerName]
    namer: Namer = field(default_factory=Namer)
    layers: list[Layer | None] = field(default_factory=list)  # by step; None for a part that is another's output
    others: dict[int, list[str]] = field(default_factory=dict)
    torchvision: dict[int, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calls = Counter(link.path for link in self.links if link.leaf or link.part)
        self.own = {names.torchvision for names in self.known.values()}

    @property
    def keras(self) -> bool:
        """Whether the network's layers have Keras names."""
        return any(names.keras for names in self.known.values())

    def add(self, step: int) -> None:
        link = self.links[step]
        path = self._path(link)
        self.others[step] = [path] if link.leaf or link.part else []
        if link.same is not None:
            self.others[link.same].append(path)
            self.layers.append(None)
            return
        names = self.known.get(link.path) if link.leaf else None
        before = None if link.before is None else self.layers[link.before]
        if names:
            self.torchvision[step] = names.torchvision
        elif link.before is not None and link.kind in FOLLOWED:
            follows = following(self.torchvision.get(link.before))
            self.torchvision[step] = None if follows in self.own else follows
        kind = names.kind if names else link.kind
        layer = Layer(self._name(link, names, before), (), kind, _shape(link), step, channels_last=link.channels_last)
        if kind == "Flatten" and link.before is not None and not self.links[link.before].channels_last:
            layer = replace(layer, flattened=self.links[link.before].shape)
        self.layers.append(layer)
        if link.kind == ACTIVATION and link.direct is not None:
            self._activated(link, link.direct, step)
        if named := self.torchvision.get(step):
            self.others[step].append(named)

    def _name(self, link: Link, names: LayerName | None, before: Layer | None) -> str:
        if link.kind == ACTIVATION and link.direct is not None and self._includes(link.direct):
            return ""  # the layer's own, which `_activated` hands on
        if names and names.keras:
            return self.namer.unique(names.keras)
        if link.part or not self.keras:
            return self.namer.unique(self._path(link))
        return self.namer.by_rule(link.kind, before.name if before else None)

    def _includes(self, step: int) -> bool:
        """Whether Keras has the activation behind this layer in the layer itself."""
        names = self.known.get(self.links[step].path)
        return bool(names and names.keras and names.kind != NORMALISATION)

    def _activated(self, link: Link, before: int, step: int) -> None:
        what, source, given = activation(link.what), self.layers[before], self.layers[step]
        assert source is not None
        assert given is not None
        name, kind = (source.name, source.kind) if self._includes(before) else (given.name, given.kind)
        self.layers[step] = replace(given, name=name, kind=kind, activation=f"after {what}")
        pre = source.name + PRE if self._includes(before) else source.name
        self.layers[before] = replace(source, name=pre, activation=f"{source.activation} before {what}".strip())

    def _path(self, link: Link) -> str:
        """The module's path, with the call's number where there are several; a function's name behind its part's."""
        if not link.leaf and not link.part:
            return ".".join(filter(None, (link.path, link.what)))
        return f"{link.path}:{link.call}" if self.calls[link.path] > 1 else link.path


def _shape(link: Link) -> tuple[int, ...]:
    """Keras's global pooling gives a vector, and PyTorch's a map of one pixel; the channels of a map come first."""
    if link.channels_last:
        return (*link.shape[:-3], link.shape[-1], *link.shape[-3:-1])
    whole = link.kind.startswith("Global") and link.shape[-2:] == (1, 1)
    return link.shape[:-2] if whole else link.shape
