"""What a command prints: text that any terminal takes, and one line of error where nothing takes it."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from ..errors import BridgeError


def prepare() -> None:
    """Characters that the terminal does not have are printed as their numbers, and no file takes a stream's place."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if None in (sys.stdout, sys.stderr):  # one was closed, and the next file to be opened would take its place
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass


def say(text: str, besides: str = "") -> None:
    """Print a text. Refused where it cannot be, with what is to be said `besides`; a reader that went away is none."""
    if sys.stdout is None:
        raise BridgeError(f"The answer cannot be printed: stdout is closed. Send it to a file.{besides}")
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, as with | head
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        raise BridgeError(
            f"The answer cannot be printed: {error.strerror}. Send it to another place.{besides}"
        ) from error


def complain(text: str) -> None:
    """Print a line on stderr, as far as there is one: the exit code says the same."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is still to be printed go nowhere: Python would try it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
