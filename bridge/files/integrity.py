"""Digests that our files carry, so that one changed bit is found and the tensor it is in is named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import BridgeError
from ..source import Array, Shape

# Two entries of a header: the digests of the tensors, in the order of their names, and that of the header.
TENSORS, HEADER = "sha256", "sha256_header"
UNKNOWN = "0" * 64  # as long as any
PIECE, MOST_THREADS = 4 << 20, 8

Described = Mapping[str, tuple[str, Shape]]  # each tensor's type and shape by name


def digest(name: str, array: Array) -> str:
    """SHA-256 of a tensor's name, type, shape and numbers, in hexadecimal digits."""
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return of_bytes(name, array.dtype.name, array.shape, ordered.reshape(-1).view(np.uint8).data)


def of_bytes(name: str, dtype: str, shape: Shape, data: memoryview) -> str:
    """The same of a tensor whose numbers are these bytes, each number's least significant byte first.

    What is hashed is one line each of name, type and shape, and then the SHA-256 of every 4 MiB of the
    bytes, so that all of the machine's cores share the work.
    """
    whole = hashlib.sha256(f"{name}\n{dtype}\n{','.join(map(str, shape))}\n".encode("utf8", "surrogatepass"))
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    if len(pieces) < 2:
        digests: Iterable[bytes] = map(_sha256, pieces)
    else:
        with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1, MOST_THREADS)) as pool:
            digests = list(pool.map(_sha256, pieces))
    for each in digests:
        whole.update(each)
    return whole.hexdigest()


def sealed(header: Mapping[str, str], described: Described, digests: Mapping[str, str]) -> dict[str, str]:
    """A file's header with the digests of its tensors, and one of the header itself."""
    entries = {**header, TENSORS: " ".join(digests[name] for name in sorted(described))}
    return {**entries, HEADER: _of_header(entries, described)}


def unsealed(header: Mapping[str, str], described: Described, where: object) -> dict[str, str]:
    """The digest of each tensor by name; none where the header has none, as other programs' files.

    Refused: a header that is not as it was written, be it in its entries or in what it says of the tensors.
    """
    if TENSORS not in header and HEADER not in header:
        return {}
    entries = {name: value for name, value in header.items() if name != HEADER}
    digests = entries.get(TENSORS, "").split()
    if header.get(HEADER) != _of_header(entries, described) or len(digests) != len(described):
        raise damaged(where, "its header")
    return dict(zip(sorted(described), digests, strict=True))


def damaged(where: object, what: str, checksum: str = "SHA-256") -> BridgeError:
    """The refusal of what is not as it was written."""
    return BridgeError(
        f"{where} is damaged: {what} is not what was written, its {checksum} differs. Get the file again."
    )


def _of_header(entries: Mapping[str, str], described: Described) -> str:
    text = json.dumps([sorted(entries.items()), sorted(described.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()
