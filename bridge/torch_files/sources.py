""".safetensors, .pt and .pth files, and state dicts in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from math import prod
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import preprocessing
from ..errors import BridgeError
from ..files import integrity
from ..files.long_names import refuse_long
from ..hdf5 import shown
from ..keras_files.archive import Member
from ..source import Array, Source, Stored
from . import pickled_files, safetensors_files
from .pickled_files import Part, Saved
from .places import NARROW, Place, array, itemsize, raw
from .torch_pickle import View

# What training frameworks put around a state dict, outermost first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
# What torch.compile and DistributedDataParallel put before every name.
_ADDED = re.compile("(_orig_mod/|module/)*")

REPEATED = 64 << 20  # bytes that tensors may take beyond those that the file has of them
TIED = 3  # or so many times these: an embedding may stand in a state dict under the name of the head, too


def read_safetensors(path: Path) -> Source:
    """Every tensor of a .safetensors file, and what its header says of where it came from.

    Where the header has digests, each tensor is held against its own when it is fetched.
    """
    found = safetensors_files.contents(path)
    refuse_long(found.tensors, path)
    described = found.described
    digests = integrity.unsealed(found.notes, described, path)

    @cache
    def check(name: str) -> None:
        place = found.tensors[name]
        data = raw(found.file, place.offset, place.size)
        if integrity.of_bytes(name, *described[name], data) != digests[name]:
            raise integrity.damaged(path, shown(name))

    def fetch(name: str) -> Array:
        if digests:
            check(name)
        return array(found.file, found.tensors[name])

    keys = _keys(sorted(found.tensors, key=_model_order(found.notes)), path.name)
    return Source(
        {
            key: Stored(found.tensors[name].shape, found.tensors[name].dtype, partial(fetch, name))
            for name, key in keys.items()
        },
        format="safetensors",
        layout="torch",
        path=path,
        keras_version=found.notes.get("keras_version"),
        preprocessing=_preprocessing(found.notes),
    )


def read_pickled(path: Path, repeated: int = REPEATED, members: Mapping[str, Member] | None = None) -> Source:
    """Every tensor of a .pt or .pth file. Only tensors and plain values are read, nothing is run.

    `members` are those of the file where it is an archive and they are known already.

    Where the archive has checksums, each storage is held against its own when a tensor of it is fetched.
    Refused: tensors that repeat stored numbers so often that they take `repeated` bytes more than the file.
    """
    saved = pickled_files.saved(path, members)
    views = _views(saved.content)
    refuse_long(views, path)
    if not views:
        raise BridgeError(f"{path} holds no tensors by name. Save a state dict: torch.save(model.state_dict(), path).")
    _refuse_repetition(path, views.values(), repeated)
    checked: set[Part] = set()

    def check(part: Part, name: str) -> None:
        if part not in checked:
            pickled_files.check(saved.file, part, shown(name))
            checked.add(part)

    keys = _keys(views, path.name)
    stored = {key: _of_view(saved, name, views[name], check) for name, key in keys.items()}
    return Source(stored, format="torch", layout="torch", path=path)


def from_state_dict(tensors: Mapping[str, Tensor]) -> Source:
    """A state dict in memory as a source."""
    refuse_long(tensors, "the state dict")
    stored = {key: _of_tensor(name, tensors[name]) for name, key in _keys(tensors, "the state dict").items()}
    return Source(stored, format="state dict", layout="torch")


def _views(content: Any) -> dict[str, View]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        return {}
    return {name: view for name, view in content.items() if isinstance(view, View)}


def _keys(names: Iterable[str], where: str) -> dict[str, str]:
    """The key of each name: its layers with slashes, and without what training put before all of them."""
    found = {name: _key(name) for name in names}
    owners: dict[str, str] = {}
    for name, key in found.items():
        if owners.setdefault(key, name) != name:
            raise BridgeError(
                f"{where}: {shown(owners[key])} and {shown(name)} are one name, {shown(key)}. Rename one of them."
            )
    added = _ADDED.match(commonprefix(list(found.values())))  # noqa: RUF071 (it is of characters)
    keys = {name: key[added.end() if added else 0 :] for name, key in found.items()}
    if strange := [name for name, key in keys.items() if key and "" in key.split("/")]:
        raise BridgeError(f"{where} names a weight {shown(strange[0])!r}, a part of which is empty. Rename it.")
    return keys


def _key(name: str) -> str:
    layer, _, parameter = name.rpartition(".")
    return f"{layer.replace('.', '/')}/{parameter}" if layer else parameter


def _model_order(header: Mapping[str, str]) -> Callable[[str], Any]:
    """The format sorts names as text (conv2d_10 before conv2d_2); our own files say the model's order."""
    order = {name: rank for rank, name in enumerate(header.get("order", "").split("\n"))}

    def rank(name: str) -> tuple[int, str]:
        return order.get(name, len(order)), re.sub(r"[0-9]+", _counted, name)

    return rank


def _counted(number: re.Match[str]) -> str:
    """A number's digits behind how many they are: so, as text, numbers are in their order."""
    digits = number[0].lstrip("0")
    return chr(len(digits)) + digits


def _refuse_repetition(path: Path, views: Iterable[View], repeated: int) -> None:
    """One stored number can be shown as often as a file likes."""
    shown, stored = 0, {}
    for view in views:
        if view.storage is not None:
            shown += prod(view.shape) * itemsize(view.dtype)
            stored[view.storage.key] = view.storage.size
    held = sum(stored.values())
    if shown > max(held + repeated, TIED * held):
        raise BridgeError(
            f"{path} repeats numbers: its tensors take {shown} bytes, of which it holds {held}. Save their clones."
        )


def _of_view(saved: Saved, name: str, view: View, check: Callable[[Part, str], None]) -> Stored:
    if view.storage is None:

        def refuse() -> Array:
            raise BridgeError(f"{saved.file.path}: {shown(name)} is {view.unreadable}.")

        return Stored(view.shape, view.dtype, refuse)
    part = pickled_files.part(saved, view.storage)
    start = part.start + view.storage.start + view.offset * itemsize(view.dtype)
    strides = None if view.in_a_row else view.strides
    place = Place(start, view.shape, view.dtype, strides, saved.big_endian)

    def fetch() -> Array:
        check(part, name)
        return array(saved.file, place)

    return Stored(view.shape, view.dtype, fetch)


def _of_tensor(name: str, tensor: Tensor) -> Stored:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Stored(tuple(tensor.shape), dtype, lambda: _numpy(name, tensor))


def _numpy(name: str, tensor: Tensor) -> Array:
    try:
        dense = tensor.detach().cpu()
        narrow = str(tensor.dtype).removeprefix("torch.") in NARROW
        return np.asarray((dense.float() if narrow else dense).numpy())
    except (TypeError, RuntimeError) as error:  # NotImplementedError of meta tensors is one, too
        raise BridgeError(f"{shown(name)} is a tensor of {tensor.layout} and {tensor.dtype}. Save it dense.") from error


def _preprocessing(header: Mapping[str, str]) -> preprocessing.Preprocessing | None:
    try:
        return preprocessing.from_dict(json.loads(header["preprocessing"]))
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
