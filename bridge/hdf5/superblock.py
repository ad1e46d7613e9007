"""Where an HDF5 file says of itself that it ends: HDF5 opens none that is shorter, whatever is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FIRST, LONGEST = 512, 256  # bytes: where it may lie but at the beginning, and more than it ever takes
_MASK = 0xFFFFFFFF
# By version: the bytes in front of its addresses, and whether a checksum follows these.
_FORMS = {0: (24, False), 1: (28, False), 2: (12, True), 3: (12, True)}
_END, _ADDRESSES = 2, 4  # which of the addresses is that of the end, and how many there are


@dataclass(frozen=True)
class Superblock:
    """Its bytes up to the last address or checksum, where they lie in the file, and how wide an address is."""

    place: int
    content: bytes
    addresses: int
    width: int
    checked: bool

    @property
    def end(self) -> int:
        """Where the file ends, counted from its first byte."""
        at = self.addresses + _END * self.width
        return int.from_bytes(self.content[at : at + self.width], "little")

    def ending_at(self, end: int) -> bytes:
        """The same bytes where the file ends there."""
        at = self.addresses + _END * self.width
        changed = self.content[:at] + end.to_bytes(self.width, "little") + self.content[at + self.width :]
        return changed[:-4] + checksum(changed[:-4]).to_bytes(4, "little") if self.checked else changed


def find(descriptor: int, size: int) -> Superblock | None:
    """That of an open file; None where it has none that is known here."""
    place = 0
    while place < size:
        content = os.pread(descriptor, LONGEST, place)
        if content.startswith(SIGNATURE):
            return _read(place, content)
        place = 2 * place or FIRST
    return None


def _read(place: int, content: bytes) -> Superblock | None:
    version = content[len(SIGNATURE)] if len(content) > len(SIGNATURE) else None
    if version not in _FORMS:
        return None
    addresses, checked = _FORMS[version]
    width = content[9 if checked else 13]
    length = addresses + _ADDRESSES * width + (4 if checked else 0)
    return Superblock(place, content[:length], addresses, width, checked) if length <= len(content) else None


def checksum(data: bytes) -> int:
    """HDF5's checksum of its own structures, Jenkins's lookup3, which takes twelve bytes at a time."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    for start in range(0, len(data), 12):
        block = data[start : start + 12].ljust(12, b"\0")
        a, b, c = ((one + int.from_bytes(block[at : at + 4], "little")) & _MASK for one, at in ((a, 0), (b, 4), (c, 8)))
        if start + 12 < len(data):
            for bits in (4, 6, 8, 16, 19, 4):
                a, b, c = b, (c + b) & _MASK, ((a - c) & _MASK) ^ _turned(c, bits)
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - _turned(b, bits)) & _MASK, a
    return b


def _turned(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _MASK
