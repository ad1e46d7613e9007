"""What the verbs' commands have in common: how they end, and the flags that all of them have."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

from ..config import Parser
from ..errors import ConvaeError, one_line
from ..training import Interrupted, graceful
from .inputs import Failures, any_size
from .printing import printing
from .rasters import LARGEST

MILLION = 1_000_000


def parser(verb: str, description: str) -> Parser:
    """A command line that says what is wrong with it in one line."""
    return Parser(prog=f"python -m torch_convae.{verb}", description=description)


def add_output_flags(made: argparse.ArgumentParser, out: str, what: str) -> None:
    """Where results go, and how much is decoded for them."""
    made.add_argument("--out", default=out, metavar=what, help=f"where results go (default: {out})")
    made.add_argument("--overwrite", action="store_true", help="replace what something else made there")
    made.add_argument(
        "--largest",
        type=float,
        default=LARGEST / MILLION,
        metavar="MEGAPIXELS",
        help=f"decode no image of more pixels, which takes 4 bytes each (default: {LARGEST // MILLION})",
    )


def largest(options: argparse.Namespace) -> int:
    """The most pixels that may be decoded."""
    if not 0 < options.largest <= 1_000_000:
        raise ConvaeError(f"--largest {options.largest:g} is no number of megapixels. Give one above 0.")
    return int(options.largest * MILLION)


def run(
    verb: str,
    made: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    act: Callable[[argparse.Namespace], Failures],
) -> int:
    """Act: 0 when all is done, 1 where some inputs could not be used, 2 for a call that cannot be carried out."""
    return ended(verb, lambda: _acted(verb, act, made.parse_intermixed_args(arguments)))


def ended(verb: str, work: Callable[[], int]) -> int:
    """The exit code of a command; 2 where all went well, but what it prints cannot be printed."""
    with printing() as out:
        try:
            code = work()
        except SystemExit as end:  # --help is given, or the call is a wrong one
            code = int(end.code or 0)
        out.flush()
        if code or not out.lost:
            return code
        _complain(verb, f"Not all of it could be printed: {out.lost}. Send stdout to another place.")
    return 2


def _acted(verb: str, act: Callable[[argparse.Namespace], Failures], options: argparse.Namespace) -> int:
    if isinstance(stdout := getattr(sys.stdout, "stream", None), io.TextIOWrapper):
        stdout.reconfigure(errors="surrogateescape")  # names that are no UTF-8 come out as they went in
    try:
        with any_size(), graceful():
            failures = act(options)
    except ConvaeError as error:
        _complain(verb, str(error))
        return 2
    except Interrupted as stopped:
        _complain(verb, str(stopped))
        return 128 + stopped.signal
    except KeyboardInterrupt:  # a second one
        _complain(verb, "stopped at once")
        return 130
    for line in failures.lines:
        _complain(verb, line)
    return 1 if failures.lines else 0


def _complain(verb: str, text: str) -> None:
    print(f"torch_convae.{verb}: {one_line(text)}", file=sys.stderr)
