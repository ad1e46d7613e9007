"""What a Keras 3 weights file holds: objects one inside another, each with its numbered arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import BridgeError
from ..hdf5 import File, Group, shown
from ..source import Shape, Stored
from .variables import ROLES, kind_of, ranked, recurrent_kind

# Keras's own lists of a model's layers: today's, and that of tf.keras 2.12 to 2.14.
LAYERS, OLD_LAYERS = "layers", "_layer_checkpoint_dependencies"
VARIABLES, CELL, CELLS = "vars", "cell", "cells"
# What a compiled model keeps beside its weights.
TRAINING = frozenset("optimizer metrics _metrics compile_metrics _compile_metrics loss_tracker _loss_tracker".split())
TRACKER = "_tracker"  # how Keras's own examples name the metrics that a model has as attributes

Place = tuple[int, int]


@dataclass(frozen=True)
class Variable:
    """One array, and where it was written: in which shard, at which address."""

    stored: Stored
    place: Place


@dataclass(frozen=True)
class Saved:
    """A model, layer or cell as Keras saved it, with what it owns.

    `local` is its place in its owner: "layers/conv2d_1", "blocks/dense" for one of a list, "forward_layer"
    for an attribute. `name` is the user's name for it, which Keras writes from 3.6 on. A recurrent layer
    and its cell, which has the arrays in its place, are one, and `recurrent` says so.
    """

    local: str
    name: str | None
    variables: Mapping[str, Variable]
    parts: tuple[Saved, ...]
    recurrent: bool = False

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of its own arrays, in their order."""
        return tuple(variable.stored.shape for variable in self.variables.values())

    @property
    def places(self) -> list[Place]:
        """Where all arrays in it were written, in order."""
        own = [variable.place for variable in self.variables.values()]
        return sorted(own + [place for part in self.parts for place in part.places])


_Found = tuple[int, File, Group]  # the same group of the tree in one of the shards


def saved(files: Sequence[File]) -> Saved:
    """The model that a weights file holds, or several files, each with a part of it."""
    return _object("", [(shard, file, file.root) for shard, file in enumerate(files)])


def _object(local: str, found: Sequence[_Found]) -> Saved:
    name: str | None = None
    variables: dict[str, Variable] = {}
    own = list(_members(found, VARIABLES))
    for shard, file, group in own:
        _refuse_no_numbers(file, group, f"{local}/{VARIABLES}/")
        named = group.attributes.get("name")
        # Where a layer begins a new shard its name stands in the one before.
        name = name or (named if isinstance(named, str) else None)
        for key, dataset in group.datasets.items():
            if key in variables:
                raise BridgeError(f"{file.path}: {dataset.path} is in several files. Get the files again.")
            variables[key] = Variable(file.stored(dataset), (shard, dataset.address))
    parts = [_object(within, inner) for within, inner in _inner(found) if not _of_training(within, inner)]
    # An attribute of the user's own may be called "vars", too.
    parts += [_object(f"{VARIABLES}/{within}", inner) for within, inner in _inner(own)]
    whole = Saved(local, name, _in_order(variables, own), in_order_of_writing(_counted_once(parts)))
    return _with_cell(whole)


def _with_cell(owner: Saved) -> Saved:
    cell = next((part for part in owner.parts if part.local == CELL), None)
    if cell is None or owner.variables:
        return owner
    kind = kind_of(owner.local.rpartition("/")[2])
    known = kind == "RNN" or ROLES.get(kind or "", ())[1:2] == ("recurrent_kernel",)
    stacked = any(part.local.startswith(f"{CELLS}/") for part in cell.parts)
    if not (known or stacked or recurrent_kind(cell.shapes) or not cell.places):
        return owner  # an attribute of the user's own
    rest = tuple(part for part in owner.parts if part is not cell)
    return replace(owner, variables=cell.variables, parts=rest + cell.parts, recurrent=True)


def _members(found: Sequence[_Found], name: str) -> Iterator[_Found]:
    for shard, file, group in found:
        _refuse_no_numbers(file, group)
        if name in group.groups:
            yield shard, file, group.groups[name]


def _refuse_no_numbers(file: File, group: Group, within: str = "") -> None:
    """What stands beside a model's parts, or beside a layer's arrays, would be left out in silence."""
    if group.refused:
        member, reason = next(iter(group.refused.items()))
        raise BridgeError(f"{file.path}: {shown((within + member).lstrip('/'))} {reason}. Get the file again.")


def _inner(found: Sequence[_Found], within: str = "") -> Iterator[tuple[str, list[_Found]]]:
    """The objects that one owns: its attributes, and what its lists hold, which are no objects themselves."""
    for name in dict.fromkeys(name for _, _, group in found for name in group.groups):
        inner = list(_members(found, name))
        if name == VARIABLES:
            continue
        if any(VARIABLES in group.groups for _, _, group in inner) or within in (f"{LAYERS}/", f"{OLD_LAYERS}/"):
            yield within + name, inner
        else:
            yield from _inner(inner, f"{within}{name}/")


def _of_training(local: str, found: Sequence[_Found]) -> bool:
    """Whether this is the state of an optimizer or a metric, here or in a model inside."""
    if local.partition("/")[0] in TRAINING:
        return True
    datasets = [dataset for _, _, group in _members(found, VARIABLES) for dataset in group.datasets.values()]
    return local.endswith(TRACKER) and bool(datasets) and all(dataset.shape == () for dataset in datasets)


def _in_order(variables: Mapping[str, Variable], own: Sequence[_Found]) -> dict[str, Variable]:
    """Keras numbers a layer's arrays from 0; as text "10" comes before "2". A layer of the user's may name them."""
    if not all(key.isdecimal() for key in variables):
        return dict(variables)
    count = len(variables)
    if set(variables) != {str(index) for index in range(count)}:
        where = f"{own[0][1].path}: a layer's arrays are numbered {[shown(key) for key in sorted(variables)[:8]]}"
        raise BridgeError(f"{where}, not from 0 on without gaps. Get the file again.")
    return {str(index): variables[str(index)] for index in range(count)}


def _counted_once(parts: Sequence[Saved]) -> list[Saved]:
    """Parts with tf.keras 2.12's places in today's spelling: it counted layers with weights twice."""
    ranks: dict[str, int] = {}
    renamed = []
    for part in sorted(parts, key=_rank):
        within, _, last = part.local.rpartition("/")
        if within == OLD_LAYERS:
            kind = ranked(last)[0]
            ranks[kind] = rank = ranks.get(kind, -1) + 1
            part = replace(part, local=f"{LAYERS}/{kind}_{rank}" if rank else f"{LAYERS}/{kind}")
        renamed.append(part)
    return renamed


def _rank(part: Saved) -> tuple[str, str, int]:
    within, _, last = part.local.rpartition("/")
    return (within, *ranked(last))


def in_order_of_writing(parts: Sequence[Saved]) -> tuple[Saved, ...]:
    """Parts as they were written one after another, where that agrees with how they are numbered.

    HDF5 lists names alphabetically and Keras numbers each class by itself; where the parts lie in the
    file is all that is left of the model's order. Those without arrays lie nowhere and come last.
    """
    ranked_parts = sorted(parts, key=_rank)
    written = [part for part in ranked_parts if part.places]
    rest = [part for part in ranked_parts if not part.places]
    # HDF5 fills gaps that it left before, so that single arrays lie elsewhere: the middle one is typical.
    by_place = sorted(written, key=lambda part: part.places[len(part.places) // 2])
    by_kind = sorted(by_place, key=lambda part: _rank(part)[:2])
    if [part.local for part in by_kind] == [part.local for part in written]:
        written = by_place
    return (*written, *rest)
