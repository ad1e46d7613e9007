"""SIGTERM ends a command as Ctrl-C does: what it had begun is undone, and one line says why it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """The command was asked to stop. No `Exception`: what reads damaged files must not take it for damage."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, the first SIGTERM raises `Stopped`; a second one ends the process at once, as usual."""

    def stop(number: int, _: object) -> None:
        signal.signal(number, before)
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
