"""One run a folder at a time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import ConvaeError
from .folder import LOCK, Folder

PATIENCE = 1.0  # seconds: the reading processes of a run that was just killed still hold its lock


@contextmanager
def locked(path: Path) -> Iterator[Folder]:
    """The folder, made if need be, for this process alone. Where no run begins, nothing of it stays."""
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("w")
    except OSError as error:
        raise ConvaeError(f"{path} cannot be written: {error.strerror}. Name another --out.") from error
    with lock:
        if not _taken(lock):
            raise ConvaeError(f"Another run is going on in {path}. Wait for it, or name another --out.")
        folder = Folder(path)
        try:
            yield folder
        finally:
            if not folder.begun:
                _remove(path / LOCK, made)


def _taken(lock: IO[str]) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.05)


def _remove(lock: Path, folders: Iterable[Path]) -> None:
    lock.unlink(missing_ok=True)
    with suppress(OSError):  # one that someone else put a file into stays
        for folder in folders:
            folder.rmdir()
