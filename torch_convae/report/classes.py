"""Each class's figures, from the confusion matrix that a run kept of its test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from .compare import NOTHING, name_of
from .html import Child, Markup, element, row, section, table
from .record import Record
from .stages import meter

MOST_CELLS = 30  # classes up to which the matrix is drawn
CELL, MARGIN = 30, 110


@dataclass(frozen=True)
class OfClass:
    """How one class fared; None where nothing can be said, as nothing was of that class."""

    name: str
    count: int
    recall: float | None
    precision: float | None
    iou: float | None


FIGURES: dict[str, Callable[[OfClass], float | None]] = {
    "recall": lambda one: one.recall,
    "precision": lambda one: one.precision,
    "IoU": lambda one: one.iou,
}


def classes(records: Sequence[Record]) -> Markup | None:
    """A table of classes and a picture of the matrix for each run; None where no run has classes."""
    known = {index: _of_classes(record) for index, record in enumerate(records) if record.confusion}
    if not known:
        return None
    splits = ", ".join(dict.fromkeys(str(records[index].confusion.get("split", "test")) for index in known))
    about = f"Counted over every example of the {splits} split once: images, or pixels where there are masks."
    same = groupby(sorted(known, key=lambda index: _names(known[index])), key=lambda index: _names(known[index]))
    tables = [_table(records, {index: known[index] for index in sorted(indices)}) for _, indices in same]
    matrices = [_matrix(records, index) for index in known if len(known[index]) <= MOST_CELLS]
    return section("Classes", *tables, element("div", *matrices, class_="matrices"), about=about)


def _names(ones: Sequence[OfClass]) -> list[str]:
    return [one.name for one in ones]


def _of_classes(record: Record) -> list[OfClass]:
    counts = record.confusion["counts"]
    predicted = [sum(column) for column in zip(*counts, strict=True)]
    found = []
    for index, name in enumerate(record.confusion["classes"]):
        hit, true, given = counts[index][index], sum(counts[index]), predicted[index]
        found.append(OfClass(str(name), true, _ratio(hit, true), _ratio(hit, given), _ratio(hit, true + given - hit)))
    return found


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _table(records: Sequence[Record], known: dict[int, list[OfClass]]) -> Markup:
    """Runs that have the same classes, side by side."""
    several = len(known) > 1
    head: list[Child] = ["class", "examples"]
    for figure in FIGURES:
        head += [[name_of(records, index), " ", figure] if several else figure for index in known]
    lines = [_class(dict(zip(known, ones, strict=True))) for ones in zip(*known.values(), strict=True)]
    return table(head, lines, class_="classes")


def _class(ones: dict[int, OfClass]) -> Markup:
    counts = " / ".join(dict.fromkeys(f"{one.count:,}" for one in ones.values()))
    cells = [_share(read(one), index) for read in FIGURES.values() for index, one in ones.items()]
    return row(next(iter(ones.values())).name, counts, *cells)


def _share(value: float | None, index: int) -> Markup:
    if value is None:
        return element("td", NOTHING)
    return element("td", f"{value:.3f}", meter(value, index % 8))


def _matrix(records: Sequence[Record], index: int) -> Markup:
    """The matrix as shares of each true class."""
    confusion = records[index].confusion
    names, counts = [str(name) for name in confusion["classes"]], confusion["counts"]
    side = MARGIN + CELL * len(names)
    cells = [
        _cell(row_index, column, count, sum(line), (names[row_index], names[column]))
        for row_index, line in enumerate(counts)
        for column, count in enumerate(line)
    ]
    labels = [_labels(place, name) for place, name in enumerate(names)]
    drawn = element("svg", labels, cells, viewBox=f"0 0 {side} {side}", role="img", aria_label="confusion matrix")
    caption = element(
        "figcaption", name_of(records, index), ": true class by row, predicted by column, in % of the row"
    )
    return element("figure", caption, drawn, class_="matrix", style=f"max-width:{min(side, 760)}px")


def _cell(row_index: int, column: int, count: int, total: int, names: tuple[str, str]) -> Markup:
    share = count / total if total else 0.0
    x, y = MARGIN + CELL * column, MARGIN + CELL * row_index
    title = element("title", f"{names[0]} seen as {names[1]}: {count:,} ({share:.1%})")
    shape = element(
        "rect", title, x=x, y=y, width=CELL - 1, height=CELL - 1, rx=3, fill_opacity=round(share, 3), class_="cell"
    )
    text = None
    if share >= 0.005:
        centre = {"x": x + CELL / 2, "y": y + CELL / 2 + 4, "text_anchor": "middle"}
        text = element("text", f"{100 * share:.0f}", class_="strong" if share > 0.5 else None, **centre)
    back = element("rect", x=x, y=y, width=CELL - 1, height=CELL - 1, rx=3, class_="empty")
    return element("g", back, shape, text)


def _labels(place: int, name: str) -> Markup:
    middle = MARGIN + CELL * (place + 0.5)
    short = name if len(name) <= 16 else f"{name[:15]}…"
    beside = element("text", short, x=MARGIN - 8, y=middle + 4, text_anchor="end")
    turned = f"rotate(-45 {middle} {MARGIN - 8})"
    return Markup(beside + element("text", short, x=middle, y=MARGIN - 8, transform=turned))
