"""What torch.save writes: a zip archive, or before PyTorch 1.6 pickles with the numbers behind them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BridgeError
from ..files.integrity import damaged
from ..hdf5 import shown
from ..hdf5.opening import Bytes
from ..keras_files import archive
from . import torch_pickle
from .pickles import LARGEST, PickleError
from .places import opened, raw
from .torch_pickle import Storage

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what a file without an archive begins with


@dataclass(frozen=True)
class Part:
    """The bytes of a file that hold one storage; `crc` is their CRC-32, where the file says it."""

    start: int
    size: int
    crc: int | None = None


@dataclass(frozen=True)
class Saved:
    """The content of a file, its tensors as `View`s, and where each storage lies that they may show."""

    file: Bytes
    content: Any
    parts: Mapping[str, Part]
    big_endian: bool = False


def saved(path: Path, members: Mapping[str, archive.Member] | None = None) -> Saved:
    """What a .pt or .pth file holds; only tensors and plain values come out, nothing is run.

    `members` are those of the file where it is an archive and they are known already.

    Refused: whatever is no plain value, archives with code or with compressed files, and damaged ones.
    """
    try:
        file = opened(path)
        zipped = bytes(raw(file, 0, min(file.size, 4))) == archive.SIGNATURE
        return _zipped(file, members or archive.members(path)) if zipped else _in_a_row(file)
    except PickleError as error:
        raise BridgeError(
            f"{path} is not a whole file of weights ({error}). Save a state dict: torch.save(m.state_dict(), path)."
        ) from error


def part(saved: Saved, storage: Storage) -> Part:
    """Where a storage lies; refused where the file holds none, or one of another size."""
    found = saved.parts.get(storage.key)
    if found is None or found.size != storage.size:
        held = f"{found.size} of its bytes" if found else "nothing"
        raise BridgeError(
            f"{saved.file.path} is damaged: it holds {held} where a storage of {storage.size} bytes should be. "
            "Get the file again."
        )
    return found


def check(file: Bytes, part: Part, what: str) -> None:
    """Refuse numbers that are not those that were written, as far as their checksum tells."""
    if part.crc is not None and zlib.crc32(raw(file, part.start, part.size)) != part.crc:
        raise damaged(file.path, what, "CRC-32")


def _zipped(file: Bytes, members: Mapping[str, archive.Member]) -> Saved:
    roots = [name.removesuffix("data.pkl") for name in members if f"/{name}".endswith("/data.pkl")]
    if len(roots) != 1:
        raise PickleError("it holds no data.pkl" if not roots else "it holds more than one data.pkl")
    root = roots[0]
    inside = {name.removeprefix(root): member for name, member in members.items() if name.startswith(root)}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise BridgeError(
            f"{file.path} is a TorchScript program. Save a state dict: torch.save(torch.jit.load(it).state_dict(), to)."
        )
    if compressed := [name for name, member in inside.items() if member.method != archive.STORED]:
        raise PickleError(f"its {shown(compressed[0])} is compressed, which torch.save never does")
    # Written with set_crc32_options(False), an archive has no checksums.
    parts = {name: Part(member.start, member.size, member.crc or None) for name, member in inside.items()}
    order = _small(file, parts["byteorder"], "byteorder") if "byteorder" in parts else b"little"
    if order not in (b"little", b"big"):
        raise PickleError("it is of a byte order that is not known")
    content, _, _ = torch_pickle.read(_small(file, parts["data.pkl"], "data.pkl"))
    storages = {name.removeprefix("data/"): place for name, place in parts.items() if name.startswith("data/")}
    return Saved(file, content, storages, order == b"big")


def _small(file: Bytes, part: Part, name: str) -> bytes:
    if part.size > LARGEST:
        raise PickleError(f"its {name} takes {part.size} bytes")
    check(file, part, f"its {name}")
    return bytes(raw(file, part.start, part.size))


def _in_a_row(file: Bytes) -> Saved:
    data = bytes(raw(file, 0, min(file.size, LARGEST)))
    magic, at, _ = torch_pickle.read(data)
    if magic != MAGIC:
        raise PickleError("it is no file of torch.save's")
    protocol, at, _ = torch_pickle.read(data, at)
    if protocol != PROTOCOL:
        raise PickleError("it is of a protocol that is not known")
    _, at, _ = torch_pickle.read(data, at)  # about the machine that wrote it
    content, at, storages = torch_pickle.read(data, at)
    keys, at, _ = torch_pickle.read(data, at)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise PickleError("it does not say which numbers follow")
    parts: dict[str, Part] = {}
    for key in keys:
        if key not in storages or key in parts:
            raise PickleError("it does not say what its numbers are for")
        count = int.from_bytes(raw(file, at, min(8, file.size - at)), "little")
        size, at = storages[key].size, at + 8
        if at + size > file.size or count * storages[key].each != size:
            raise PickleError("it breaks off")
        parts[key], at = Part(at, size), at + size
    return Saved(file, content, parts)


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict with torch.save. What the disk refuses raises OSError, as it does for any other file."""
    with path.open("wb") as file:
        try:
            torch.save(dict(tensors), file)
        except RuntimeError as error:  # on its way out, PyTorch covers what happened by what followed from it
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error).split("\n")[0]) from error
