"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from .errors import BridgeError


@contextmanager
def replacing(path: Path, source: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name once it is complete and on disk.

    Where `path` is a link to a file, that file is replaced and the link stays; a former file's
    permissions stay, too. Refused: a destination that is `source`, that is there and is no regular file
    or may not be written to, a link to nothing. Whatever goes wrong meanwhile, `path` stays as it was and
    nothing else is left behind; a process that is killed leaves at most a hidden file that ends in .part.
    """
    try:
        target, mode = _target(path)
        if source is not None:
            refuse_same(path, source)
        # The name may be as long as names can be, so only its beginning is used.
        handle, name = mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part")
        os.close(handle)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _refusal(path, error) from error
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.chmod(mode)  # mkstemp's files are private
        beside.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def refuse_same(path: Path, source: Path) -> None:
    """Refuse a destination that is the source, by whatever name or link."""
    try:
        same = path.samefile(source)
    except (OSError, ValueError):  # there is no such file yet, or cannot be
        return
    if same:
        raise BridgeError(f"{path} is the source itself. Name another destination.")


def _target(path: Path) -> tuple[Path, int]:
    """The file that the name stands for, and the permissions that it has or will have."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise BridgeError(f"{path} is a link to nothing. Name another destination.") from None
        return path, 0o666 & ~_umask()
    if not stat.S_ISREG(mode):
        raise BridgeError(f"{path} is not a regular file. Name another destination.")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Path(os.path.realpath(path)), stat.S_IMODE(mode)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # the file is in place; not every system can promise that its name is on disk, too
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refusal(path: Path, error: OSError | ValueError) -> BridgeError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return BridgeError(f"{path} cannot be written: {reason}. Name another destination.")
