"""Ctrl-C and SIGTERM: at once where nothing is at stake, and where weights move, once all is saved."""

from __future__ import annotations

import signal
import sys
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


def _say_nothing_of_what_is_half_made() -> None:
    """From now on, until the process ends.

    The signal may come between `open` and `with`: the file is closed with the process. It may come while a loader of
    data starts its processes, whose `__del__` then misses what was not made. And where it comes within a `__del__`,
    Python prints the exception and drops it; the signal is noted, and the run stops at its next look.
    """
    warnings.simplefilter("ignore", ResourceWarning)
    sys.unraisablehook = lambda _: None


@contextmanager
def graceful() -> Iterator[Stop]:
    """Take note of the first signal; a second one ends the process at once, as usual."""
    stop = Stop()

    def note(number: int, _: object) -> None:
        stop.signal = number
        for one, handler in before.items():
            signal.signal(one, handler)
        if not stop.waits:
            _say_nothing_of_what_is_half_made()
            raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
