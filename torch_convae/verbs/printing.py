"""What a command prints, where that can fail: its reader has gone, the disk is full, stdout is closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class Printer:
    """A stream, until it takes no more: what is printed from then on goes nowhere, and `lost` says why.

    So a run of hours does not end because nobody reads its log. A reader that has seen enough, as `head` has, is no
    reason.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost = ""
        self._why = "" if stream else "stdout is closed"

    def write(self, text: str) -> int:
        """Characters that the stream does not have are printed as their numbers."""
        self.lost = self.lost or self._why
        try:
            self._attempt(lambda stream: stream.write(text))
        except UnicodeEncodeError as error:
            shown = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self._attempt(lambda stream: stream.write(shown))
        return len(text)

    def flush(self) -> None:
        """As far as there is something to flush it to."""
        self._attempt(lambda stream: stream.flush())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _attempt(self, act: Callable[[TextIO], object]) -> None:
        if self.stream is None:
            return
        try:
            act(self.stream)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.lost = error.strerror or str(error)
            # What the stream still holds goes nowhere, too: Python would try it again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            self.stream = None


@contextmanager
def printing() -> Iterator[Printer]:
    """Within, stdout and stderr are such printers; the one that it gives is stdout's."""
    kept = sys.stdout, sys.stderr
    if None in kept:  # the next files to be opened would take their places
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass
    out, err = map(Printer, kept)
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = kept
