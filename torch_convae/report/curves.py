"""The figures of runs over their epochs: one panel a figure, a colour a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..words import words
from .chart import Band, Curve, Point, chart
from .html import Markup, element, section
from .record import Record

SPLITS = ("train", "val", "test")
COLOURS = 8
SOLID = 1  # the page's styles of lines are 0, dashed; 1, solid; 2, dotted


def curves(records: Sequence[Record]) -> Markup | None:
    """A panel for each figure that any run has; None where no epoch is done yet."""
    figures = _figures(records)
    if not figures:
        return None
    bands = _bands(records)
    panels = [chart(words(figure), _curves(records, figure), bands) for figure in figures]
    return section("Curves", _legend(records), element("div", *panels, class_="charts"))


def _figures(records: Sequence[Record]) -> list[str]:
    """What is measured, the loss first: a name without its split."""
    names = dict.fromkeys(
        _split(name)[1]
        for record in records
        for line in record.history
        for name, value in line.items()
        if isinstance(value, float)
    )
    return sorted(names, key=lambda name: (name != "loss", _split_of(records, name) is None))


def _split(name: str) -> tuple[str | None, str]:
    head, _, rest = name.partition("_")
    return (head, rest) if head in SPLITS and rest else (None, name)


def _split_of(records: Sequence[Record], figure: str) -> str | None:
    found = (_split(name) for record in records for line in record.history for name in line)
    return next((split for split, rest in found if rest == figure), None)


def _curves(records: Sequence[Record], figure: str) -> list[Curve]:
    """A colour for each split of one run; of several runs a colour for each run, a style of line for each split."""
    made = []
    for index, record in enumerate(records):
        for split, dash in [*_styles(records).items(), ("", SOLID)]:
            name = f"{split}_{figure}" if split else figure
            if pieces := _pieces(record, name):
                alone = len(records) == 1
                title = name if alone else f"{record.label}, {name}"
                made.append(Curve(title, pieces, dash if alone else index % COLOURS, SOLID if alone else dash))
    return made


def _styles(records: Sequence[Record]) -> dict[str, int]:
    """The splits that were measured, each with its style of line: dashed for train, solid for the first other."""
    names = {name for record in records for line in record.history for name in line}
    used = [split for split in SPLITS if any(name.startswith(f"{split}_") for name in names)]
    measured = [split for split in used if split != "train"]
    return {split: 0 if split == "train" else SOLID + measured.index(split) for split in used}


def _pieces(record: Record, name: str) -> tuple[tuple[Point, ...], ...]:
    """A figure's points, in a piece for each stage: what one stage minimises says nothing of the next."""
    numbered = [(epoch, line) for epoch, line in enumerate(record.history, 1) if isinstance(line.get(name), float)]
    stages = groupby(numbered, key=lambda pair: str(pair[1]["stage"]))
    return tuple(tuple((float(epoch), line[name]) for epoch, line in lines) for _, lines in stages)


def _bands(records: Sequence[Record]) -> list[Band]:
    """The stages, where all runs have the same ones at the same epochs."""
    spans = [_stages(record) for record in records if record.history]
    longest = max(spans, key=len, default=[])
    return longest if all(span == longest for span in spans) else []


def _stages(record: Record) -> list[Band]:
    bands: list[Band] = []
    for name, lines in groupby(record.history, key=lambda line: str(line["stage"])):
        first = bands[-1].last + 1 if bands else 1
        bands.append(Band(name, first, first + len(list(lines)) - 1))
    return bands


def _legend(records: Sequence[Record]) -> Markup:
    styles = _styles(records)
    if len(records) == 1:
        items = [_key(split, dash, SOLID) for split, dash in styles.items()]
    else:
        items = [_key(record.label, index % COLOURS, SOLID) for index, record in enumerate(records)]
        items += [_key(split, None, dash) for split, dash in styles.items()]
    return element("ul", *items, class_="legend")


def _key(name: str, colour: int | None, dash: int) -> Markup:
    style = f"curve dash{dash}" + ("" if colour is None else f" colour{colour}")
    line = element(
        "svg", element("line", x1=0, x2=28, y1=6, y2=6), viewBox="0 0 28 12", class_=style, aria_hidden="true"
    )
    return element("li", line, name)
