"""What an HDF5 file holds, as plain values: names, attributes, and where the numbers of each data set lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import NoneType
from typing import Any

import numpy as np

Value = str | int | float | list[str] | list[float] | None  # an attribute; None for a kind that no weights file needs

BFLOAT16 = "bfloat16"  # NumPy has no name for it
_WIDE = (f"{order}{kind}{size}" for order in "<>" for kind in "iuf" for size in (2, 4, 8))
TYPES = frozenset((BFLOAT16, "|i1", "|u1", *_WIDE))
MOST_AXES = 32  # HDF5's own limit


@dataclass(frozen=True)
class Dataset:
    """A data set's numbers, not read yet.

    `dtype` is NumPy's spelling ("<f4", ">f8", "|i1"), or "bfloat16". `offset` is where the numbers
    begin in the HDF5 file if they lie there in one piece, unfiltered; None where they are chunked.
    `address` is that of the object: one for all names of tied weights.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None
    address: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A group's members by name, in the file's order, and what cannot be used of them with the reason why."""

    attributes: Mapping[str, Value] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def listed(group: Group, name: str) -> list[str] | None:
    """An attribute that lists names, put together where Keras split it; None where there is none."""
    if name in group.attributes:
        return _names(group.attributes[name])
    values: list[str] = []
    part = 0
    while f"{name}{part}" in group.attributes:
        values += _names(group.attributes[f"{name}{part}"])
        part += 1
    return values if part else None


def _names(value: Value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def shown(name: str) -> str:
    """A name from a file, fit for a message: quoted where it would not print as it is, and cut where it is long."""
    short = name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}"
    return short if short.isprintable() and short else repr(short)


def datasets(group: Group) -> Iterator[Dataset]:
    """Every data set in a group, however deep."""
    yield from group.datasets.values()
    for inner in group.groups.values():
        yield from datasets(inner)


def size(dataset: Dataset) -> int:
    """The bytes that its numbers take in the file."""
    return prod(dataset.shape) * stored_type(dataset).itemsize


def stored_type(dataset: Dataset) -> np.dtype[Any]:
    """The numbers' type as they lie in the file; bfloat16 is its bits."""
    return np.dtype("<u2" if dataset.dtype == BFLOAT16 else dataset.dtype)


def grown(described: Any, path: str = "") -> Group:
    """A group from the worker's plain values. Those of a wrong kind raise ValueError, TypeError or the like."""
    attributes, groups, datasets, refused = described
    return Group(
        {str(name): _value(value) for name, value in attributes.items()},
        {name: grown(inner, f"{path}/{name}") for name, inner in groups.items()},
        {name: _dataset(f"{path}/{name}", *inner) for name, inner in datasets.items()},
        {name: str(reason) for name, reason in refused.items()},
    )


def _dataset(path: str, shape: list[int], dtype: str, offset: int | None, address: int, attributes: Any) -> Dataset:
    numbers = [*shape, address, 0 if offset is None else offset]
    if dtype not in TYPES or len(shape) > MOST_AXES or any(type(each) is not int or each < 0 for each in numbers):
        raise ValueError(dtype)
    return Dataset(path, tuple(shape), dtype, offset, address, {k: _value(v) for k, v in attributes.items()})


def _value(value: Any) -> Value:
    if not isinstance(value, (str, int, float, list, NoneType)):
        raise TypeError(value)
    if isinstance(value, list) and not (
        all(isinstance(each, str) for each in value) or all(isinstance(each, (int, float)) for each in value)
    ):
        raise TypeError(value)
    return value
