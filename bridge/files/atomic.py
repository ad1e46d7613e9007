"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from ..arguments import check_path
from ..errors import BridgeError

OPEN_FILES = Path("/proc/self/fd")  # where Linux has a name for a file that has none
NO_SUCH_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


def destination(path: str | PathLike[str]) -> Path:
    """The file that is meant; no name, and one that ends as a folder's does, is refused."""
    text = check_path(path)
    if not text:
        raise BridgeError("The destination has no name, as an unset variable of a shell. Name a file.")
    if os.path.basename(text) in ("", ".") and Path(text).name:  # noqa: PTH119 (Path leaves such an end out)
        raise BridgeError(f"{text} is the name of a folder. Name a file.")
    return Path(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is written there takes the name `path` once it is complete and on disk.

    Where `path` is a link to a file, that file is replaced and the link stays; a former file's
    permissions stay, too. Refused: a destination that is there and is no regular file or may not be
    written to, a link to nothing. Whatever goes wrong meanwhile, `path` stays as it was and
    nothing else is left behind. Linux gives the new file no name until it is complete, so that a process
    that is killed leaves nothing; elsewhere it leaves at most a hidden file that ends in .part.
    """
    try:
        target, mode = _target(path)
        descriptor = _without_name(target.parent)
        with _hidden(target, mode) if descriptor is None else _unnamed(descriptor, target, mode) as new:
            yield new
        _sync_folder(target.parent)
    except OSError as error:
        raise BridgeError(f"{path} cannot be written: {error.strerror or error}. Name another destination.") from error


def refuse_same(path: Path, sources: Iterable[Path]) -> None:
    """Refuse a destination that is one of the sources, by whatever name or link."""
    for source in sources:
        with suppress(OSError, ValueError):  # there is no such file yet, or cannot be
            if path.samefile(source):
                raise BridgeError(f"{path} is the source itself. Name another destination.")


def _target(path: Path) -> tuple[Path, int]:
    """The file that the name stands for, and the permissions that it has or will have."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a name has no zero bytes")
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


def _without_name(folder: Path) -> int | None:
    """A new file in the folder that is gone when it is closed; None where the system has no such files."""
    if not hasattr(os, "O_TMPFILE") or not OPEN_FILES.is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno in NO_SUCH_FILES:
            return None
        raise


@contextmanager
def _unnamed(descriptor: int, target: Path, mode: int) -> Iterator[Path]:
    """The file behind the descriptor, which gets the target's name in the end."""
    new = OPEN_FILES / str(descriptor)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        yield new
        os.fsync(descriptor)
        os.fchmod(descriptor, mode)
        try:
            os.link(new, target.name, dst_dir_fd=folder, follow_symlinks=True)
        except FileExistsError:  # only a file with a name can take another one's
            hidden = _hidden_name(target)
            with _removed_if_left(target.with_name(hidden)):
                os.link(new, hidden, dst_dir_fd=folder, follow_symlinks=True)
                os.replace(hidden, target.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
        os.close(descriptor)


@contextmanager
def _hidden(target: Path, mode: int) -> Iterator[Path]:
    """A file beside the target, which gets its name in the end."""
    new = target.with_name(_hidden_name(target))
    with _removed_if_left(new):
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.chmod(mode)
        new.replace(target)


def _hidden_name(target: Path) -> str:
    # The name may be as long as names can be, so only its beginning is used.
    return f".{target.name[:40]}.{secrets.token_hex(4)}.part"


@contextmanager
def _removed_if_left(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # the file is in place; not every system can promise that its name is on disk, too
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
