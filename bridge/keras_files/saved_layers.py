"""The layers of a saved model under the user's names: the file's objects, beside what the configuration says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BridgeError
from ..hdf5 import shown
from ..layers.directions import BIDIRECTIONAL, SIDES, sided
from ..source import Shape, Stored
from .configured import Configured
from .saved import CELLS, LAYERS, Saved
from .variables import kind_of, ranked, recurrent_kind

# Where a layer's name comes from, the surest first.
ATTRIBUTE, CONFIGURATION, PLACE = range(3)
# What Keras itself calls the layers in an attention layer.
PROJECTIONS = {
    f"{private}{attribute}_dense": name
    for private in ("", "_")
    for attribute, name in {"query": "query", "key": "key", "value": "value", "output": "attention_output"}.items()
}
DIRECTIONS = {f"{side}_layer": side for side in SIDES}  # a Bidirectional's attributes
KERAS_ORDER = (*PROJECTIONS, *DIRECTIONS)


@dataclass(frozen=True)
class SavedLayer:
    """A layer under its path of names. `kind` and `config` are None where nothing tells.

    `names` are those its arrays have in the file, "0", "1", ... but for a layer that saves them in its own way.
    `own` is whether the class is the user's own.
    """

    path: str
    kind: str | None
    config: Mapping[str, Any] | None
    names: tuple[str, ...]
    arrays: tuple[Stored, ...]
    origin: int
    own: bool = False

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Those of its arrays."""
        return tuple(array.shape for array in self.arrays)


def layers(model: Saved, said: Configured | None, path: Path, keras_2: bool = False) -> Iterator[SavedLayer]:
    """Every layer of a model, outer ones first, in the configuration's order or else the file's.

    Layers of one name are told apart by their places in the file. `keras_2` is whether tf.keras wrote it.
    Refused: arrays that the configuration has no layer for, and names that are none.
    """
    yield _layer("", model, None, ATTRIBUTE)
    yield from _inner(model, said, "", path, keras_2)


def _inner(owner: Saved, said: Configured | None, outer: str, path: Path, keras_2: bool) -> Iterator[SavedLayer]:
    known = _sure(owner, said, keras_2) if said else {}
    listed = said.parts if said else {}
    rank = {local: index for index, local in enumerate(listed or KERAS_ORDER)}
    parts = sorted(owner.parts, key=lambda part: rank.get(part.local, len(rank)))
    of_attention = len(PROJECTIONS.keys() & {part.local for part in parts}) == 4
    names = [_name(part, known.get(part.local), of_attention) for part in parts]
    if _kind(owner, said) == BIDIRECTIONAL:
        names = [_of_side(part, *each) for part, each in zip(parts, names, strict=True)]
    often = Counter(name for part, (name, _) in zip(parts, names, strict=True) if part.places)
    for part, (name, origin) in zip(parts, names, strict=True):
        strange = listed and part.local not in listed and part.local.startswith(f"{LAYERS}/")
        if strange and not part.name and part.places:
            raise BridgeError(f"{path} holds {part.local}, which its configuration does not. Give this model's own.")
        if often[name] > 1:
            name, origin = part.local, PLACE
        inner = known.get(part.local)
        at = f"{outer}/{_checked(name, path)}".lstrip("/")
        yield _layer(at, part, inner, origin)
        yield from _inner(part, inner, at, path, keras_2)


def _sure(owner: Saved, said: Configured, keras_2: bool) -> Mapping[str, Configured]:
    """The configured parts whose places are certain.

    A layer that two models share is saved in the first only. In the second Keras 3 leaves out its number,
    and Keras 2 gives it to the next layer of the class.
    """
    saved = {part.local for part in owner.parts}
    shared = {ranked(local)[0] for local in said.parts if local not in saved} if keras_2 else set()
    return {local: part for local, part in said.parts.items() if ranked(local)[0] not in shared}


def _layer(path: str, part: Saved, said: Configured | None, origin: int) -> SavedLayer:
    arrays = tuple(variable.stored for variable in part.variables.values())
    config = said.config if said else None
    own = said is not None and said.own
    return SavedLayer(path, _kind(part, said), config, tuple(part.variables), arrays, origin, own)


def _name(part: Saved, said: Configured | None, of_attention: bool) -> tuple[str, int]:
    if part.name:
        return part.name, ATTRIBUTE
    if of_attention and part.local in PROJECTIONS:
        return PROJECTIONS[part.local], CONFIGURATION
    return (said.name, CONFIGURATION) if said and said.name else (_place(part), PLACE)


def _of_side(part: Saved, name: str, origin: int) -> tuple[str, int]:
    """The name with the side that its place says, which the user's own name for a second layer may not."""
    return (sided(DIRECTIONS[part.local], name) if part.local in DIRECTIONS else name), origin


def _place(part: Saved) -> str:
    """Its place in its owner, without Keras's own lists: "conv2d_1", "blocks/dense"."""
    return part.local.removeprefix(f"{LAYERS}/").removeprefix(f"{CELLS}/")


def _kind(part: Saved, said: Configured | None) -> str | None:
    """The class: as configured, as its list has it, or as the name that Keras gave it tells."""
    if said and said.kind:
        return said.kind
    within, _, last = part.local.rpartition("/")
    kind = kind_of(last) if within else kind_of(part.name or "")
    if kind is None and {inner.local for inner in part.parts if inner.recurrent} == DIRECTIONS.keys():
        return BIDIRECTIONAL
    return kind or (recurrent_kind(part.shapes) if part.recurrent else None)


def _checked(name: str, path: Path) -> str:
    if {"", ".", ".."} & set(name.split("/")):
        raise BridgeError(f"{path} names a layer {shown(name)}, which is no name. Get the file again.")
    return name
