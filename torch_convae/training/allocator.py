"""Where a step's memory comes from: what the step before gave back, not the system again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Of malloc.h in glibc: the option's number, its value while training, and the one it has by default.
M_TRIM_THRESHOLD, M_MMAP_MAX = (-1, 2**31 - 1, 128 * 1024), (-4, 0, 65_536)


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep freed memory in the process, on the CPU and where the C library is glibc; give it back at the end.

    Every step asks for the same large tensors. By itself glibc returns those to the system when they are freed, and
    each page of new ones is a fault that the kernel has to clear a page for: a twentieth of a step's time.
    """
    try:
        for option, value, _ in (M_TRIM_THRESHOLD, M_MMAP_MAX):
            _set(option, value)
        yield
    finally:
        for option, _, default in (M_TRIM_THRESHOLD, M_MMAP_MAX):
            _set(option, default)
        give_back()


def give_back() -> None:
    """Return to the system what is free."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _set(option: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(option, value)
