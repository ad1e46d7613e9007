"""HDF5 in a process of its own, so that a file on which it crashes or loops is one more file that is refused."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from dataclasses import replace
from typing import IO, Any

from ..errors import BridgeError
from . import process

SECONDS = 8.0  # of processor time to describe a file; numbers take longer
BUSY = 6  # times as long, at most, on a machine with much else to do
BYTES_A_SECOND = 16 << 20
MEMORY = 256 << 20
OUT_OF_TIME = getattr(signal, "SIGXCPU", 0)
COPIES = 6  # of a chunk, while it is unpacked
LARGEST_CHUNK = 16 << 20


def ask(what: str, file: int, request: dict[str, Any], into: IO[bytes] | None = None) -> Any:
    """What the worker answers to a request about an open file; numbers it writes `into`, which has their size.

    Refused, named as `what`: what the worker refuses, and files on which it crashes, that take it more
    memory than a weights file does, or more time.
    """
    size = os.fstat(into.fileno()).st_size if into else 0
    order = process.Order(
        json.dumps(request).encode(),
        [file, into.fileno()] if into else [file],
        memory=MEMORY + (COPIES * max(size, LARGEST_CHUNK) if into else 0),
        seconds=SECONDS + size / BYTES_A_SECOND,
        patience=BUSY * (SECONDS + size / BYTES_A_SECOND),
    )
    try:
        given = process.asked(order)
        if not isinstance(given, bytes) and given != -OUT_OF_TIME:
            # The server was killed since the last time, or a file that was read before did harm.
            given = process.asked(replace(order, fresh=True))
        if given is not None:
            return _understood(what, given)
    except TimeoutError:
        raise BridgeError(
            f"{what} is damaged: HDF5 comes to no end of it within {order.seconds:.0f} seconds. Get the file again."
        ) from None
    except process.NotStarted as error:
        reason = " ".join(str(error).split())
        raise BridgeError(
            f"{what} cannot be read: {reason}. Try read(path, isolated=False), for files that you trust."
        ) from error
    raise BridgeError(f"{what} cannot be read: the process that reads it is killed from outside. Read it again.")


def _understood(what: str, given: bytes | int) -> Any:
    """The worker's answer, which is not to be trusted: a file may have taken it over."""
    if given == -OUT_OF_TIME:
        raise TimeoutError
    if isinstance(given, int):
        how = f"HDF5 crashes on it ({signal.strsignal(-given)})" if given < 0 else f"reading it fails ({given})"
        raise BridgeError(f"{what} is damaged: {how}. Get the file again.")
    try:
        answer, reason = json.loads(given)
    except (ValueError, TypeError, RecursionError) as error:
        raise BridgeError(f"{what} is damaged: what it holds makes no sense. Get the file again.") from error
    if reason is not None:
        raise BridgeError(f"{what} {' '.join(str(reason).split())}")
    return answer


def room(size: int) -> IO[bytes]:
    """A file of that size without a name: in memory where the system has such, else on disk."""
    if not hasattr(os, "memfd_create"):
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
        file.truncate(size)
        return file
    import fcntl  # not on every system

    file = os.fdopen(os.memfd_create("weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", 0)
    file.truncate(size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return file
