"""What the verbs' commands have in common: how they end, and the flags that all of them have."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable

from .config import Parser
from .errors import ConvaeError, one_line
from .inputs import Failures, any_size
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


def run(verb: str, act: Callable[[argparse.Namespace], Failures], options: argparse.Namespace) -> int:
    """Act: 0 when all is done, 1 where some inputs could not be used, 2 for a call that cannot be carried out."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that are no UTF-8 come out as they went in
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        with any_size():
            failures = act(options)
            sys.stdout.flush()
    except ConvaeError as error:
        print(f"torch_convae.{verb}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a list has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"torch_convae.{verb}: stopped", file=sys.stderr)
        return 130
    for line in failures.lines:
        print(f"torch_convae.{verb}: {one_line(line)}", file=sys.stderr)
    return 1 if failures.lines else 0
