"""A zip archive's members, found and checked without unpacking: where their bytes lie in the file itself."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import BridgeError
from ..hdf5 import most_unpacked, shown

SIGNATURE = b"PK\x03\x04"
STORED, DEFLATED = 0, 8
MOST_MEMBERS = 20_000  # a .pt file has one for each tensor
LARGEST_DIRECTORY = 32 << 20
BLOCK = 1 << 20

_END = struct.Struct("<4s4H2LH")
_END_64_PLACE = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _SIZES_BEHIND, _UTF8 = 1 | 1 << 6 | 1 << 13, 1 << 3, 1 << 11
_IN_EXTRA, _ZIP_64 = 0xFFFFFFFF, 1


@dataclass(frozen=True)
class Member:
    """One file of an archive. Its bytes, `stored_size` of them, begin at `start`, compressed by `method` or as is."""

    archive: Path
    name: str
    method: int
    crc: int
    stored_size: int
    size: int
    start: int

    def __str__(self) -> str:
        return f"{self.archive}: {shown(self.name)}"


def members(path: Path) -> dict[str, Member]:
    """Every file of an archive by name, in its order.

    Refused: an archive that is broken off, that begins or ends with something else, that is encrypted
    or spread over volumes; a name that occurs twice or points elsewhere; sizes and names that the
    directory and the members' own headers state differently; members that lie over one another.
    """
    try:
        with path.open("rb") as file:
            directory = _directory(path, file)
            found: dict[str, Member] = {}
            for member in _entries(path, file, directory):
                if member.name in found:
                    raise _damaged(path, f"it holds {shown(member.name)} twice")
                found[member.name] = member
    except OSError as error:
        raise BridgeError(f"{path} cannot be read: {error.strerror}.") from error
    _refuse_overlaps(path, found, directory.start)
    packed, whole = path.stat().st_size, sum(member.size for member in found.values())
    if whole > most_unpacked(packed):
        raise _damaged(path, f"its {packed} bytes would unpack to {whole}")
    return found


def content(member: Member, largest: int) -> bytes:
    """A small member's bytes; one of more than `largest` is refused."""
    if member.size > largest:
        raise BridgeError(f"{member} takes {member.size} bytes, more than {largest}. Get the file again.")
    return b"".join(_checked(member))


def check(member: Member) -> None:
    """Refuse a member whose bytes are not those that were written: its checksum tells."""
    for _ in _checked(member):
        pass


def unpacked(member: Member, largest: int) -> IO[bytes]:
    """The member's bytes in a temporary file without a name, which is gone when it is closed."""
    if member.size > largest:
        raise BridgeError(f"{member} takes {member.size} bytes unpacked, more than the limit of {largest}.")
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    try:
        for block in _checked(member):
            file.write(block)
        file.flush()
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise BridgeError(f"{member} cannot be unpacked: {error.strerror}. Make room and read again.") from error
        raise
    return file


@dataclass(frozen=True)
class _Directory:
    start: int
    size: int
    members: int


def _damaged(path: Path, reason: str) -> BridgeError:
    return BridgeError(f"{path} is a damaged archive ({reason}). Get the file again.")


def _directory(path: Path, file: IO[bytes]) -> _Directory:
    """Where the directory lies: right before the record that ends the archive."""
    size = file.seek(0, os.SEEK_END)
    tail = _bytes(file, max(0, size - _END.size - 0xFFFF), size)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise _damaged(path, "its end is missing")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, place)
    end = size - len(tail) + place
    if end + _END.size + comment != size:
        raise _damaged(path, "it does not end where it says")
    if disk or first_disk or here != count:
        raise _damaged(path, "it is one of several volumes")
    if _bytes(file, end - _END_64_PLACE.size, end).startswith(b"PK\x06\x07"):  # sizes of more than 4 GiB
        end, count, length, start = _zip_64(path, file, end)
    if start + length != end:
        raise _damaged(path, "its directory is not where it says")
    if count > MOST_MEMBERS or length > LARGEST_DIRECTORY:
        raise _damaged(path, f"it lists {count} files")
    return _Directory(start, length, count)


def _zip_64(path: Path, file: IO[bytes], end: int) -> tuple[int, int, int, int]:
    """Where the end begins in an archive with wide numbers, and its directory's count, length and start."""
    _, disk, start_64, disks = _END_64_PLACE.unpack(_bytes(file, end - _END_64_PLACE.size, end))
    record = _bytes(file, start_64, start_64 + _END_64.size)
    if len(record) != _END_64.size or not record.startswith(b"PK\x06\x06"):
        raise _damaged(path, "its end is missing")
    _, _, _, _, this_disk, first_disk, here, count, length, start = _END_64.unpack(record)
    if disk or disks > 1 or this_disk or first_disk or here != count:
        raise _damaged(path, "it is one of several volumes")
    return start_64, count, length, start


def _entries(path: Path, file: IO[bytes], directory: _Directory) -> Iterator[Member]:
    data = _bytes(file, directory.start, directory.start + directory.size)
    place = 0
    for _ in range(directory.members):
        if len(data) - place < _ENTRY.size or not data.startswith(b"PK\x01\x02", place):
            raise _damaged(path, "its directory breaks off")
        entry = _ENTRY.unpack_from(data, place)
        flags, method, crc, packed, size = entry[3], entry[4], *entry[7:10]
        name_length, extra_length, comment_length, disk, local = *entry[10:14], entry[16]
        names_at = place + _ENTRY.size
        raw, extra_at = data[names_at : names_at + name_length], names_at + name_length
        size, packed, local = _wide((size, packed, local), data[extra_at : extra_at + extra_length])
        place = extra_at + extra_length + comment_length
        name = _safe_name(path, raw, flags)
        if flags & _ENCRYPTED:
            raise BridgeError(f"{path} is encrypted ({shown(name)}). Unpack it with its password and pack it again.")
        if disk:
            raise _damaged(path, "it is one of several volumes")
        if method == STORED and size != packed:
            raise _damaged(path, f"{shown(name)} is {size} bytes in {packed}")
        start = _start(path, file, local, _Header(raw, flags, method, crc, packed, size))
        yield Member(path, name, method, crc, packed, size, start)
    if place != directory.size:
        raise _damaged(path, "its directory is longer than what it lists")


def _safe_name(path: Path, raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it names a file {raw[:60]!r}") from error
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or "\\" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise BridgeError(f"{path} names a file {shown(name)}, which points outside the archive. Get the file again.")
    return name


@dataclass(frozen=True)
class _Header:
    name: bytes
    flags: int
    method: int
    crc: int
    stored_size: int
    size: int


def _start(path: Path, file: IO[bytes], local: int, said: _Header) -> int:
    """Where a member's bytes begin: behind its own header, which must say what the directory says."""
    data = _bytes(file, local, local + _LOCAL.size)
    if len(data) != _LOCAL.size or not data.startswith(SIGNATURE):
        raise _damaged(path, f"{said.name[:60]!r} is not where the directory says")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(data)
    names_at = local + _LOCAL.size
    rest = _bytes(file, names_at, names_at + name_length + extra_length)
    size, packed = _wide((size, packed), rest[name_length:])
    start: int = names_at + name_length + extra_length
    own = _Header(rest[:name_length], flags, method, crc, packed, size)
    unsaid = flags & _SIZES_BEHIND and not (crc or packed or size)  # written in one go, sizes follow the bytes
    if own != said and not (unsaid and (own.name, flags, method) == (said.name, said.flags, said.method)):
        raise _damaged(path, f"the directory and {said.name[:60]!r} itself differ")
    return start


def _wide(values: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """Sizes and places; those of more than 4 GiB stand in the extra field, in this order."""
    if _IN_EXTRA not in values:
        return values
    wide, place = b"", 0
    while len(extra) - place >= 4:
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == _ZIP_64:
            wide = extra[place + 4 : place + 4 + length]
        place += 4 + length
    numbers = iter(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
    return tuple(next(numbers, value) if value == _IN_EXTRA else value for value in values)


def _refuse_overlaps(path: Path, found: Mapping[str, Member], directory: int) -> None:
    before = 0
    for member in sorted(found.values(), key=lambda member: member.start):
        if member.start < before or member.start + member.stored_size > directory:
            raise _damaged(path, f"{shown(member.name)} reaches over another part")
        before = member.start + member.stored_size


def _checked(member: Member) -> Iterator[bytes]:
    """A member's bytes in blocks; wrong ones raise, at the latest after the last block."""
    if member.method not in (STORED, DEFLATED):
        raise BridgeError(f"{member} is compressed by method {member.method}. Pack the archive again without.")
    crc, given = 0, 0
    try:
        with member.archive.open("rb") as file:
            packed = _blocks(file, member.start, member.stored_size)
            for block in packed if member.method == STORED else _inflated(packed, member):
                crc, given = zlib.crc32(block, crc), given + len(block)
                yield block
    except OSError as error:
        raise BridgeError(f"{member.archive} cannot be read: {error.strerror}.") from error
    except zlib.error as error:
        raise _damaged(member.archive, f"{member.name} cannot be unpacked") from error
    if (given, crc) != (member.size, member.crc):
        raise _damaged(member.archive, f"the checksum of {member.name} is wrong")


def _blocks(file: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size > 0 and (block := file.read(min(size, BLOCK))):
        size -= len(block)
        yield block


def _inflated(packed: Iterator[bytes], member: Member) -> Iterator[bytes]:
    """Unpacked blocks; never more bytes than the member says it has."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    left = member.size + 1
    for block in packed:
        while block and left > 0 and not unpacker.eof:
            out = unpacker.decompress(block, min(left, BLOCK))
            left, block = left - len(out), unpacker.unconsumed_tail
            if out:
                yield out
    if not unpacker.eof or unpacker.unused_data or left != 1:
        raise _damaged(member.archive, f"{member.name} is not of the size it says")


def _bytes(file: IO[bytes], start: int, end: int) -> bytes:
    if not 0 <= start < 1 << 62:  # no file is that long, and seek takes no more
        return b""
    file.seek(start)
    return file.read(end - start)
