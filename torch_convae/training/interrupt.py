"""Ctrl-C and SIGTERM: at once where nothing is at stake, and where weights move, once all is saved."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Interrupted(BaseException):
    """The run was asked to stop. `signal` is the number that asked.

    No `Exception`, as `KeyboardInterrupt` is none: what reads damaged files must not take it for damage.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


@dataclass
class Stop:
    """The signal that asked for a stop, if one did, and whether it has to wait until somebody looks."""

    signal: int | None = None
    waits: bool = False

    def raise_if_asked(self) -> None:
        """Leave, at a moment when all can be saved."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, a signal is only noted."""
        before, self.waits = self.waits, True
        try:
            yield
        finally:
            self.waits = before

    @contextmanager
    def free(self) -> Iterator[None]:
        """Within, a signal is raised at once, and one that was noted before, too: nothing here changes the run."""
        before, self.waits = self.waits, False
        try:
            self.raise_if_asked()
            yield
        finally:
            self.waits = before


@contextmanager
def graceful() -> Iterator[Stop]:
    """Take note of the first signal; a second one ends the process at once, as usual."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = number
        for one, handler in before.items():
            signal.signal(one, handler)
        if not stop.waits:
            # It may come between `open` and `with`; the file is closed with the process, and nothing leaks.
            warnings.simplefilter("ignore", ResourceWarning)
            raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
