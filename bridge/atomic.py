"""A file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from .errors import BridgeError


@contextmanager
def replacing(path: Path, source: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name once it is complete and on disk.

    Whatever goes wrong meanwhile, `path` stays as it was and nothing else is left behind. Refused: what
    is no regular file, and `source` itself by whatever link.
    """
    try:
        if source is not None and _same_file(path, source):
            raise BridgeError(f"{path} is the source itself. Name another destination.")
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise BridgeError(f"{path} is not a regular file. Name another destination.")
        handle, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise BridgeError(f"{path} cannot be written: {error.strerror}. Name another destination.") from error
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # mkstemp's files are private
        beside.replace(path)
    except OSError as error:
        raise BridgeError(f"{path} cannot be written: {error.strerror or error}. Name another destination.") from error
    finally:
        beside.unlink(missing_ok=True)


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # there is no such file yet, or cannot be
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
