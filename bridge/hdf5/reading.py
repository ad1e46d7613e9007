"""A file's tree and numbers, from the worker: here, or in a process that a damaged file may take down."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..source import Array
from . import isolation
from .opening import Bytes
from .tree import Dataset, Group, datasets, grown, shown, size, stored_type

REPEATED = 64 << 20  # bytes that weights may take under all their names beyond those that the file has of them
TIED = 3  # or so many times these
ALWAYS, GROWTH = 256 << 20, 100  # weights pack to a tenth at best; a small file may unpack to so much


def most_unpacked(size: int) -> int:
    """The bytes that a file of `size` bytes may unpack to."""
    return max(ALWAYS, GROWTH * size)


def described(content: Bytes, largest: int, isolated: bool) -> Group:
    """The tree of an HDF5 file; one that is damaged, or is no weights file by far, is refused."""
    request = {"start": content.start, "size": content.size}
    ask = isolation.ask if isolated else _answer
    try:
        root = grown(ask(str(content.path), content.descriptor, request))
    except OSError as error:
        raise BridgeError(f"{content.path} cannot be read: {error.strerror}.") from error
    except (TypeError, ValueError, AttributeError, RecursionError) as error:  # from a process that was taken over
        raise BridgeError(f"{content.path} is damaged: what it holds makes no sense. Get the file again.") from error
    refuse_more(content.path, [root], content.size, largest)
    _refuse_overlaps(content, root)
    return root


def refuse_more(path: Path, roots: Sequence[Group], stored: int, largest: int) -> None:
    """Refuse files that declare more than `largest` bytes together, or far more than the `stored` ones can hold.

    One data set can have as many names as a file likes, and its numbers are given for each of them.
    """
    names = [list(datasets(root)) for root in roots]
    named = sum(size(each) for found in names for each in found)
    held = sum(sum({each.address: size(each) for each in found}.values()) for found in names)
    if named > largest:
        raise BridgeError(
            f"{path} declares {named} bytes of weights, more than the limit of {largest}. "
            "Get the file from its author, or read it with a larger limit: read(path, largest=...)."
        )
    if held > most_unpacked(stored):
        raise BridgeError(f"{path} declares {held} bytes of weights in {stored} bytes. Get it from its author.")
    if named > max(held + REPEATED, TIED * held):
        raise BridgeError(
            f"{path} repeats numbers: its weights take {named} bytes, of which it holds {held}. Get it from its author."
        )


def _refuse_overlaps(content: Bytes, root: Group) -> None:
    """Each number has a place of its own, unless it has several names."""
    whole = {each.address: each for each in datasets(root) if each.offset is not None and size(each)}
    end, before = 0, ""
    for found in sorted(whole.values(), key=lambda each: each.offset or 0):
        assert found.offset is not None
        if found.offset < end:
            raise BridgeError(
                f"{content.path} is damaged ({shown(before)} and {shown(found.path)} lie over one another). "
                "Get the file again."
            )
        end, before = found.offset + size(found), found.path


def fetched(content: Bytes, dataset: Dataset, isolated: bool) -> Array:
    """The numbers of a data set that does not lie in the file in one piece."""
    request = {
        "start": content.start,
        "size": content.size,
        "names": dataset.path.strip("/").split("/"),
        "described": [list(dataset.shape), dataset.dtype, dataset.offset, dataset.address],
    }
    what = f"{content.path}: {shown(dataset.path)}"
    try:
        filled = _filled(what, content.descriptor, request, size(dataset), isolated)
    except OSError as error:
        raise BridgeError(f"{what} cannot be read: {error.strerror}.") from error
    return np.frombuffer(filled, stored_type(dataset)).reshape(dataset.shape)


def _filled(what: str, descriptor: int, request: dict[str, Any], size: int, isolated: bool) -> bytearray | mmap.mmap:
    if not isolated:
        here = bytearray(size)
        _answer(what, descriptor, request, here)
        return here
    with isolation.room(size) as room:
        isolation.ask(what, descriptor, request, room)
        return mmap.mmap(room.fileno(), size)


def _answer(what: str, descriptor: int, request: dict[str, Any], into: Any = None) -> Any:
    """The worker's answer, from this process."""
    from .worker import answer  # here, so that HDF5 is loaded only where it is used

    tree, reason = answer(descriptor, request, into)
    if reason:
        raise BridgeError(f"{what} {reason}")
    return tree
