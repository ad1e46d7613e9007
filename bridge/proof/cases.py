"""The layers that a plan copies, each beside the part of the module that takes its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..layers.beside import Map
from ..layers.epsilon import MODERN, default_epsilon
from ..layers.layouts import RECURRENT
from ..layers.recurrent import OURS, computed_by_layer, computed_by_module, config_of, usual_gates
from ..matching.notes import NORMALISATIONS
from ..matching.pairing import kind_of_layer
from ..matching.slots import Place, places, tensor_of
from ..options import Options, renamed
from ..plan import Copy, Plan
from ..source import Array, Source, split
from .trial import Case
from .twin import one_level, twin

_LEVEL = re.compile(r".*_l(\d+)(_reverse)?")


@dataclass(frozen=True)
class Layer:
    """One layer of the source and its copies.

    `roles` are those of its weights by their keys in the source. `missing` are the weights that nothing
    takes, by their keys, with the reason.
    """

    name: str
    kind: str
    copies: tuple[Copy, ...]
    place: Place | None
    roles: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def module(self) -> str:
        """The path of the part of the module that it fills."""
        if self.place is not None:
            return self.place.module
        return self.copies[0].target.rpartition(".")[0] if self.copies else ""

    @property
    def maps(self) -> tuple[Map | None, Map | None]:
        """The maps that a layer's inputs were flattened from and that its outputs are reshaped to."""
        found = {axis: each for copy in self.copies if copy.from_shape[1:] for axis, each in copy.transform.flattened}
        vectors = {
            axis: each for copy in self.copies if not copy.from_shape[1:] for axis, each in copy.transform.flattened
        }
        return found.get(0, None if self.kind == "Dense" else vectors.get(0)), found.get(1)

    @property
    def kept(self) -> bool:
        """Whether the axes of a normalisation's weights stay in Keras's order: those of steps and channels may."""
        orders = [copy.transform.axes for copy in self.copies if len(copy.from_shape) > 1]
        return bool(orders) and all(order == tuple(range(len(order))) for order in orders)


def layers_of(source: Source, module: nn.Module, plan: Plan, options: Options) -> Iterator[Layer]:
    """Every layer of the source in its order, also those that nothing is copied from."""
    where = places(module, options.prefix, options.names).places.values()
    slots = [(place, {slot.target for slot in place.slots.values()}) for place in where]
    roles: dict[str, dict[str, str]] = {}
    for key, name in renamed(source, options.rename).items():
        roles.setdefault(split(key)[0], {})[key] = split(name)[1]
    copies: dict[str, list[Copy]] = {layer: [] for layer in roles}
    for copy in plan.copied.values():
        copies[split(copy.source)[0]].append(copy)
    for layer, own in copies.items():
        missing = {key: plan.reasons[key] for key in plan.skipped if split(key)[0] == layer}
        targets = {copy.target for copy in own}
        place = next((place for place, held in slots if targets and targets <= held), None)
        kind = kind_of_layer(source, layer, source.layers[layer], place) if source.layout == "keras" else None
        yield Layer(layer, kind or source.kinds.get(layer, ""), tuple(own), place, roles[layer], missing)


def case_of(
    layer: Layer, source: Source, module: nn.Module, weights: Mapping[str, Array], epsilon: float | None
) -> Case:
    """What a layer is proved with: the file's numbers, and a twin of the module's part."""
    assert layer.place is not None
    part = module.get_submodule(layer.place.module)
    levels = {int(found[1]) for copy in layer.copies if (found := _LEVEL.fullmatch(copy.target))}
    taken, given = layer.maps
    return Case(
        layer=layer.name,
        kind=layer.kind,
        weights=weights,
        config=_config(layer, source, part, epsilon),
        module=one_level(part, levels.pop()) if levels else twin(part),
        taken=taken,
        given=given,
        rows=layer.copies[0].rows,
        kept=layer.kept,
        backward=_is_backward(layer.name),
    )


def weights_of(layer: Layer, source: Source, module: nn.Module) -> dict[str, Array]:
    """The file's numbers by role, in float64, rounded as the module's own type rounds them."""
    types = {copy.source: tensor_of(module, copy.target).dtype for copy in layer.copies}
    common = next(iter(types.values()), torch.float64)
    old = (source.keras_version or "").split(".")[0] == "1" and layer.name not in source.kinds
    weights: dict[str, Array] = {}
    for key, role in layer.roles.items():
        array = torch.from_numpy(source[key]).to(types.get(key, common)).double().numpy()
        if old and role == "kernel" and layer.kind == "Conv2DTranspose":
            array = array.swapaxes(-1, -2)  # Keras 1 had (height, width, in, out)
        weights[role] = array
    return weights


def _config(layer: Layer, source: Source, part: nn.Module, epsilon: float | None) -> dict[str, Any]:
    """The layer's configuration, with what Keras does where the file does not say."""
    config = dict(config_of(source, layer.name))
    if layer.kind in NORMALISATIONS and config.get("epsilon") is None:
        batch = layer.kind == "BatchNormalization"
        default = default_epsilon(source, layer.name) if batch else MODERN
        config["epsilon"] = default if epsilon is None else epsilon
    if layer.kind == "GroupNormalization" and config.get("groups") is None:
        config["groups"] = getattr(part, "num_groups", -1)
    if layer.kind in RECURRENT:
        said = computed_by_layer(source, layer.name, layer.kind)
        config |= {name: value for name, value in (_usual(layer, source, part) | _known(said)).items() if name in said}
    return config


def _usual(layer: Layer, source: Source, part: nn.Module) -> dict[str, Any]:
    """What a recurrent layer computes where the file does not say: as the module was built for it.

    torch's own modules have sigmoid gates for want of others, and Keras had others once.
    """
    own = computed_by_module(part)
    if not isinstance(part, OURS):
        own |= _known({"recurrent_activation": usual_gates(source, layer.name, layer.kind)})
    return own


def _known(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _is_backward(layer: str) -> bool:
    """Whether a layer is the second direction of a Bidirectional, by the name that Keras gives it."""
    return layer.rpartition("/")[2].startswith("backward_")
