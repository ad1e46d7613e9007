"""What a naming scheme is, and how one is made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Layers = Mapping[str, str]  # layer path -> Keras class, in the model's order
Naming = Callable[[Layers], dict[str, str]]


@dataclass(frozen=True)
class Scheme:
    """A way of naming layers: from its own paths to Keras names, and back.

    Both leave out the layers that the scheme has no name for (a head of the user's own) and give
    nothing at all where the layers are not those of a network it knows. `convolved` are the paths of Dense layers
    that it has as convolutions: one as large as the map, others over one position.
    """

    name: str
    to_keras: Naming
    from_keras: Naming
    convolved: frozenset[str] = frozenset()


def either(*namings: Naming) -> Naming:
    """The names that the first of these gives which knows the network."""
    return lambda layers: next(filter(None, (naming(layers) for naming in namings)), {})


def clear(naming: Naming) -> Naming:
    """Keras names without doubt: a layer that is called so itself keeps its name; two layers of one name are none."""

    def names(layers: Layers) -> dict[str, str]:
        found = naming(layers)
        free = {layer: found[layer] for layer in layers if layer in found and found[layer] not in layers}
        return free if len(set(free.values())) == len(free) else {}

    return names


def moved(name: str, base: Scheme, there: Callable[[str], str | None], back: Callable[[str], str | None]) -> Scheme:
    """The same networks at other paths: `there` gives the base's path of one's own, `back` one's own of the base's.

    What is None has no place in the other.
    """

    def to_keras(layers: Layers) -> dict[str, str]:
        own = {path: layer for layer in layers if (path := there(layer)) is not None}
        names = base.to_keras({path: layers[layer] for path, layer in own.items()})
        return {own[path]: keras for path, keras in names.items()}

    def from_keras(layers: Layers) -> dict[str, str]:
        paths = ((layer, back(path)) for layer, path in base.from_keras(layers).items())
        return {layer: path for layer, path in paths if path is not None}

    return Scheme(name, to_keras, from_keras)


def begins(names: Iterable[str], networks: Iterable[Iterable[str]]) -> bool:
    """Whether these names are all of one of the networks from its beginning on, up to anywhere."""
    given = set(names)
    return any(given == set(list(network)[: len(given)]) for network in networks)
