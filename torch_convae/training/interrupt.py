"""Ctrl-C and SIGTERM ask for a stop; the loop stops after the step it is in, once all is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Interrupted(Exception):
    """The run was asked to stop and has saved where it is. `signal` is the number that asked."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


@dataclass
class Stop:
    """The signal that asked for a stop, if one did."""

    signal: int | None = None

    def raise_if_asked(self) -> None:
        """Leave the loop; to be called once all is saved."""
        if self.signal is not None:
            raise Interrupted(self.signal)


@contextmanager
def graceful() -> Iterator[Stop]:
    """Take note of the first signal; a second one ends the process at once, as usual."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = number
        for one, handler in before.items():
            signal.signal(one, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
