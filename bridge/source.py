"""The one shape every reader gives: {"layer/role": array}, lazy, plus what the file says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .architecture import layers, walk
from .errors import BridgeError
from .preprocessing import Preprocessing, recognise

Array = NDArray[Any]
Shape = tuple[int, ...]

LARGEST_FIRST_KERNEL = 1 << 20  # numbers; beyond that it is none of a published network


@dataclass(frozen=True)
class Stored:
    """One tensor as it lies in a file: its shape and type, and how to get it.

    `how` says what was done to it on the way, for the plan ("3 -> 1 channels: summed"). `rows` are
    the rows of the target, in PyTorch's axis 0, that its outputs fill where they do not fill all.
    `region` is where its bytes begin in its HDF5 file, and their type, where they lie there as they are.
    """

    shape: Shape
    dtype: str
    fetch: Callable[[], Array]
    how: str = ""
    rows: tuple[int, ...] | None = None
    region: tuple[int, str] | None = None


@dataclass(frozen=True, eq=False)
class Source(Mapping[str, Array]):
    """Weights by "layer/role", each fetched when it is asked for.

    `layout` tells whose axes the arrays have: "keras" (channels last, Keras role names) or
    "torch" (PyTorch's axes and parameter names). `architecture` is the model's JSON where the
    file holds one; it is data and never becomes an object. `undecided` says what the file leaves open
    without which no load would be right, and what decides it. `flattened` are the maps by which the
    reader has put the rows of an old file's layers into Keras 3's order, `cudnn` the recurrent layers that
    were CuDNN's, which computes in one way only, `unsure` the layers whose one role is the usual of two that
    it may be, `twins` the second places of weights that a file holds twice. `parts` are the files that it is
    made of where `path` is not the only one.
    """

    stored: Mapping[str, Stored]
    format: str
    layout: Literal["keras", "torch"] = "keras"
    path: Path | None = None
    keras_version: str | None = None
    backend: str | None = None
    architecture: Mapping[str, Any] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    undecided: str | None = None
    flattened: Mapping[str, Shape] = field(default_factory=dict)
    cudnn: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    twins: Mapping[str, Stored] = field(default_factory=dict)
    parts: tuple[Path, ...] = ()

    def __getitem__(self, key: str) -> Array:
        return self.stored[key].fetch()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __contains__(self, key: object) -> bool:
        return key in self.stored

    def __repr__(self) -> str:
        return f"<Source {self.name}: {self.format}, {len(self)} tensors>"

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name if self.path else "the given weights"

    @property
    def version(self) -> tuple[int, ...] | None:
        """Keras's version as numbers, as far as it has them: "2.2.4-tf" is (2, 2, 4)."""
        numbers: list[int] = []
        for part in (self.keras_version or "").split("."):
            digits = part.partition("-")[0]
            if not digits.isdecimal():
                break
            numbers.append(int(digits))
        return tuple(numbers) or None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it comes from."""
        return (*((self.path,) if self.path else ()), *self.parts)

    def check(self, keys: Iterable[str] | None = None) -> None:
        """Fetch all tensors, or those, one after the other: what is damaged, or no dense tensor, is refused now."""
        for key in self if keys is None else keys:
            self[key]

    def recognised(self) -> Source:
        """The same, with the preprocessing of a published network where the first kernel over RGB is one's."""
        for key, shape in self.shapes.items():
            if len(shape) == 4 and shape[2] == 3 and prod(shape) < LARGEST_FIRST_KERNEL and not self.undecided:
                return replace(self, preprocessing=recognise(self[key]))
        return self

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor, without fetching any."""
        return {key: stored.shape for key, stored in self.stored.items()}

    @cached_property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        """The configuration of every layer by its path, where the file has one."""
        return {path: layer.config for path, layer in walk(layers(self.architecture))}

    @cached_property
    def layers(self) -> dict[str, dict[str, Shape]]:
        """The layers that have weights, in the model's order, each with its shapes by role."""
        found: dict[str, dict[str, Shape]] = {}
        for key, stored in self.stored.items():
            layer, role = split(key)
            found.setdefault(layer, {})[role] = stored.shape
        return found


def split(key: str) -> tuple[str, str]:
    """A key as layer and role: "encoder/conv/kernel" is ("encoder/conv", "kernel")."""
    layer, _, role = key.rpartition("/")
    return layer, role


def key_of(layer: str, role: str) -> str:
    """The key of a layer's weight; a lone layer's, and a model's own, has no name in front."""
    return f"{layer}/{role}" if layer else role


def from_arrays(arrays: Mapping[str, Array]) -> Source:
    """A source of arrays in memory, keyed "layer/role" and laid out as Keras does."""
    return Source({key: in_memory(key, np.asarray(array)) for key, array in arrays.items()}, format="arrays")


def in_memory(key: str, array: Array) -> Stored:
    """A tensor that needs no file."""
    if not is_numbers(array.dtype):
        raise BridgeError(f"{key} holds {array.dtype}, not numbers.")
    return Stored(tuple(array.shape), array.dtype.name, lambda: np.require(native(array), requirements=["C", "W"]))


def is_numbers(dtype: np.dtype[Any]) -> bool:
    """Whether PyTorch has these numbers, too: NumPy has wider floats."""
    return dtype.kind in "fiu" and dtype.itemsize <= 8


def native(array: Array) -> Array:
    """The same numbers in this machine's byte order and alignment; PyTorch takes no others."""
    ordered = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return np.require(ordered, requirements="A")
