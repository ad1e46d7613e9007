"""Numbers and tables as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: float) -> str:
    """Four digits that count, without powers of ten where it can be: 0.8725, 12,800, 3e-05."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    whole = len(str(int(abs(value))))
    return f"{value:,.{max(4 - (whole if abs(value) >= 1 else 0), 0)}f}"


def size(count: float) -> str:
    """Bytes in the unit that keeps them short."""
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 999.5 else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} {UNITS[-1]}"


def duration(seconds: float) -> str:
    """Seconds as 42.1 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def words(name: str) -> str:
    """A name of code as words: mean_iou, test_accuracy."""
    return " ".join("IoU" if part == "iou" else part for part in name.split("_"))


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows as lines with aligned columns, those in `right` to the right; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [str.rjust if column in right else str.ljust for column in range(len(widths))]
    return ["  ".join(map(_in_place, aligned, row, widths)).rstrip() for row in rows]


def _in_place(align: Callable[[str, int], str], cell: str, width: int) -> str:
    return align(cell, width)
