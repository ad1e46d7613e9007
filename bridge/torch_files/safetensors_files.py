"""The .safetensors format: eight bytes of length, a header in JSON, and the tensors' numbers one behind the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BridgeError
from ..files import integrity
from ..files.integrity import Described
from ..hdf5 import shown
from ..hdf5.opening import Bytes
from .places import Place, is_shape, itemsize, opened, raw

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "BOOL": "bool",
} | {f"{sign}{bits}": f"{word}{bits}" for sign, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

NOTES = "__metadata__"
LARGEST_HEADER = 32 << 20  # bytes; a tensor takes about 200
MOST_VALUES = 150_000  # a tensor takes 7 at least


@dataclass(frozen=True)
class Contents:
    """What a file's header says: notes by name, and where each tensor lies, in the header's order."""

    file: Bytes
    notes: Mapping[str, str]
    tensors: Mapping[str, Place]

    @property
    def described(self) -> Described:
        """The type and the shape of each tensor."""
        return {name: (place.dtype, place.shape) for name, place in self.tensors.items()}


def contents(path: Path) -> Contents:
    """What a file holds, from its header alone.

    Refused: a header that is no JSON, that names something twice, whose tensors overlap, leave gaps or do
    not end with the file, and kinds of numbers that PyTorch has no tensor of one number each for.
    """
    file = opened(path)
    try:
        header, start = _header_of(file)
        notes = header.pop(NOTES, {})
        if not _is_text(notes):
            raise _Damaged("its notes are no text")
        tensors = {name: _tensor(name, entry, start) for name, entry in header.items()}
        _refuse_gaps(tensors, start, file.size)
    except _Damaged as error:
        raise BridgeError(f"{path} is not a whole .safetensors file ({error}). Get the file again.") from error
    return Contents(file, notes, tensors)


def write(tensors: Mapping[str, Tensor], path: Path, header: Mapping[str, str]) -> None:
    """Write tensors under their names, one after the other, with `header` and a digest of all as notes.

    Refused: tensors that are not dense, names that together are longer than is read again. What the disk
    refuses raises OSError.
    """
    _refuse_strange(tensors)
    notes = {name: value.encode("utf8", "replace").decode("utf8") for name, value in header.items()}
    described = {name: (_dtype(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    # Wide numbers come first, so that all lie where a processor wants them.
    order = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    digests = dict.fromkeys(tensors, integrity.UNKNOWN)
    with path.open("wb") as file:
        file.write(_header(tensors, order, integrity.sealed(notes, described, digests)))
        for name in order:
            data = _bytes(tensors[name])
            digests[name] = integrity.of_bytes(name, *described[name], data)
            file.write(data)
        file.seek(0)
        file.write(_header(tensors, order, integrity.sealed(notes, described, digests)))


class _Damaged(ValueError):
    """What is wrong with a header."""


def _header_of(file: Bytes) -> tuple[dict[str, Any], int]:
    """A file's header, and where the tensors behind it begin."""
    length = int.from_bytes(raw(file, 0, min(8, file.size)), "little")
    if length > min(file.size - 8, LARGEST_HEADER):
        raise _Damaged(f"its header should take {length} bytes")
    return _parsed(bytes(raw(file, 8, length))), 8 + length


def _parsed(data: bytes) -> dict[str, Any]:
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise _Damaged(f"its header has more than {MOST_VALUES} values")
    try:
        header = json.loads(data.decode("utf8"), object_pairs_hook=_once, parse_constant=_no_number)
    except _Damaged:
        raise
    except (ValueError, RecursionError) as error:
        raise _Damaged("its header is no JSON") from error
    if type(header) is not dict:
        raise _Damaged("its header is no JSON object")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise _Damaged("its header names something twice")
    return entries


def _no_number(text: str) -> None:
    raise _Damaged(f"its header holds {text}")


def _tensor(name: str, entry: Any, start: int) -> Place:
    if type(entry) is not dict or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _Damaged(f"its header does not say what {shown(name)} is")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(shape) is not list or not is_shape(shape) or not _is_span(offsets):
        raise _Damaged(f"its header does not say where {shown(name)} is")
    if type(dtype) is not str or dtype not in DTYPES:
        raise _Damaged(f"{shown(name)} is of a type that cannot be read, {shown(str(dtype))}")
    if offsets[1] - offsets[0] != prod(shape) * itemsize(DTYPES[dtype]):
        raise _Damaged(f"{shown(name)} is {dtype} {shape} in {offsets[1] - offsets[0]} bytes")
    return Place(start + offsets[0], tuple(shape), DTYPES[dtype])


def _is_span(offsets: Any) -> bool:
    return type(offsets) is list and len(offsets) == 2 and all(type(place) is int and place >= 0 for place in offsets)


def _is_text(notes: Any) -> bool:
    return type(notes) is dict and all(type(value) is str for value in notes.values())


def _refuse_gaps(tensors: Mapping[str, Place], start: int, end: int) -> None:
    for name, place in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if place.offset != start:
            raise _Damaged(f"{shown(name)} begins {place.offset - start} bytes behind the tensor before it")
        start += place.size
    if start != end:
        raise _Damaged(f"its tensors end {end - start} bytes before the file does")


def _refuse_strange(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or _dtype(tensor) not in NAMES:
            raise BridgeError(f"{name} is a tensor of {tensor.layout} and {tensor.dtype}, which cannot be written.")
        if name == NOTES or name.encode("utf8", "replace").decode("utf8") != name:
            raise BridgeError(f"A tensor cannot be called {name!r} in a .safetensors file. Rename it.")


def _header(tensors: Mapping[str, Tensor], order: list[str], notes: Mapping[str, str]) -> bytes:
    """The file's beginning, up to the first number; as long for one digest as for another."""
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].itemsize
        places[name] = (start, end)
    header: dict[str, Any] = {NOTES: dict(notes)}
    for name, tensor in tensors.items():
        header[name] = {"dtype": NAMES[_dtype(tensor)], "shape": list(tensor.shape), "data_offsets": places[name]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf8")
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise BridgeError(
            f"The names of the tensors take {len(text)} bytes with their notes, more than the {LARGEST_HEADER} that "
            "the header of a .safetensors file may have here. Write a .pt file instead."
        )
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
