"""python -m torch_convae.report RUN [RUN ...]: one HTML page of a run, or of several side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConvaeError
from ..files import write_whole
from ..verbs import command
from ..verbs.inputs import Failures
from .page import page
from .record import read_runs

OURS = b"<!doctype html>"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; 0 when done, 2 for folders that hold no run."""
    return command.run("report", _parser(), arguments, act)


def act(options: argparse.Namespace) -> Failures:
    """Write the page, as the flags say."""
    out = _out(options.out, options.runs)
    text = page(read_runs(options.runs))
    write_whole(out, lambda beside: beside.write_text(text, encoding="utf-8"))
    print(out)
    return Failures()


def _parser() -> argparse.ArgumentParser:
    made = command.parser("report", "One HTML page that needs nothing else: of one run, or of several side by side.")
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run, complete or not")
    made.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html in the run's folder; of several, here)"
    )
    return made


def _out(asked: Path | None, runs: Sequence[Path]) -> Path:
    """Where the page goes; a file that is no page is not written over."""
    out = asked or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    if out.is_dir():
        raise ConvaeError(f"{out} is a folder. Name a file with --out.")
    try:
        if out.exists() and not out.read_bytes()[: len(OURS)].lower() == OURS:
            raise ConvaeError(f"{out} exists and is no report. Name another --out.")
    except OSError as error:
        raise ConvaeError(f"{out} cannot be read: {error.strerror}. Name another --out.") from error
    return out


if __name__ == "__main__":
    sys.exit(main())
