"""Which model inside a file is the one that a module mirrors, as the base of a network that was built on another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import BridgeError
from ..layers.directions import side_of
from ..naming import names as naming
from ..naming.auto_names import DEEPEST, auto_prefix
from ..naming.densenet_names import today
from ..options import shortened
from .slots import Places


@dataclass(frozen=True)
class Model:
    """A model inside a file: its path, and its layers' own names, as Keras has them today, by their paths."""

    path: str
    names: Mapping[str, str]

    @property
    def given(self) -> frozenset[str]:
        """The names that a user or a published network gave; those that Keras counted tell nothing."""
        return frozenset(name for name in self.names.values() if auto_prefix(_last(name)) is None)

    @property
    def counted(self) -> frozenset[str]:
        """The classes of the layers right inside it that Keras named by itself."""
        return frozenset(prefix for name in self.names.values() if (prefix := auto_prefix(name)))

    def own(self, values: Mapping[str, str]) -> dict[str, str]:
        """What is given by the layers' paths, by their own names."""
        return {name: values[layer] for layer, name in self.names.items()}

    @property
    def rule(self) -> str:
        """The rename that takes its layers for a module's own."""
        return f"rename={{'{self.path}/*': '*'}}"


def model_for(layers: Sequence[str], placed: Mapping[str, str], where: Places, source: str) -> Model | None:
    """The model of which the module has the layers under their own names; None where there is none.

    `layers` are those of the source, `placed` those that have a place by their whole path. It is one that is in the
    module whole, that has all that the module names, or whose names in common are a published network's. None is
    looked for where the module has models of its own, or where a layer outside has one of the names inside. Refused:
    several such models.
    """
    if any("/" in layer and not side_of(layer) for layer in placed):
        return None
    found = [model for model in _models(layers) if _fits(model, layers, placed, where)]
    return _only(found, source, "the module has")


def model_with_names(
    kinds: Mapping[str, str], kept: Collection[str], scheme: naming.Scheme, source: str
) -> Model | None:
    """The model that the scheme has names for, where it has none for the layers by their whole paths.

    `kinds` are the classes of all layers, `kept` those that are not left out. Refused: several such models.
    """
    if scheme.from_keras(kinds):
        return None
    models = (model for model in _models(kinds) if not model.names.keys().isdisjoint(kept))
    found = [model for model in models if scheme.from_keras(model.own(kinds))]
    return _only(found, source, f"{scheme.name} has")


def nearest(layers: Iterable[str], where: Places) -> Model | None:
    """The model that shares the most given names with the module; None where none shares any."""
    own = _given(where)
    shared = {model.path: model for model in _models(layers) if model.given & own}
    return max(shared.values(), key=lambda model: len(model.given & own), default=None)


def note_on(model: Model) -> str:
    """What a plan says of it."""
    return f"The layers are those inside {model.path}, by their own names, as with {model.rule}."


def _models(layers: Iterable[str]) -> list[Model]:
    inside: dict[str, list[str]] = {}
    for layer in layers:
        parts = layer.split("/", DEEPEST)
        for depth in range(1, len(parts)):
            inside.setdefault("/".join(parts[:depth]), []).append(layer)
    found = []
    for path, held in inside.items():
        own = {layer: layer[len(path) + 1 :] for layer in held}
        current = today(own.values())
        found.append(Model(path, {layer: current[name] for layer, name in own.items()}))
    return found


def _fits(model: Model, layers: Iterable[str], placed: Mapping[str, str], where: Places) -> bool:
    outside = {layer for layer in layers if layer not in model.names}
    if model.names.keys() & placed.keys() or outside & {*model.names.values()}:
        return False
    if model.counted & {auto_prefix(layer) for layer in outside}:
        return False
    own = _given(where, placed)
    common = model.given & own
    return bool(common) and (common == model.given or common == own or naming.is_published(common))


def _given(where: Places, placed: Mapping[str, str] = MappingProxyType({})) -> set[str]:
    """The names in a module of the layers that have none placed in them, without those that Keras counted."""
    names = (where.keras_names.get(path, path) for path in where.places if path not in {*placed.values()})
    return {name for name in names if auto_prefix(_last(name)) is None}


def _only(found: Sequence[Model], source: str, what: str) -> Model | None:
    if len(found) > 1:
        raise BridgeError(
            f"{source}: {shortened([model.path for model in found])} each hold layers that {what} by their own names. "
            f"Say which with {found[0].rule}, or leave the others out with skip '{found[1].path}/*'."
        )
    return next(iter(found), None)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
