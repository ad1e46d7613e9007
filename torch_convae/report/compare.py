"""What runs came to and what they were told, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..words import duration, number, size, words
from .html import Child, Markup, element, row, section, table
from .record import Record

COLOURS = 8
NOTHING = "\N{EN DASH}"


def results(records: Sequence[Record]) -> Markup:
    """Every run's final figures in one table, the best of each marked."""
    names = dict.fromkeys(name for record in records for name in record.figures)
    lines: list[Child] = [_figure(name, [record.figures.get(name) for record in records]) for name in names]
    lines += [
        row("parameters", *[written(record.outline.get("parameters"), number) for record in records]),
        row("epochs", *[len(record.history) for record in records]),
        row("time in steps", *[written(_seconds(record), duration) for record in records]),
        row("peak memory", *[written(_peak(record), size) for record in records]),
        row("state", *[_state(record) for record in records]),
    ]
    return section("Results", table(["", *heads(records)], lines, class_="figures"))


def configuration(records: Sequence[Record]) -> Markup:
    """Every option of every run; those that differ come first and are marked."""
    names = dict.fromkeys(name for record in records for name in record.settings)
    values = {name: [record.settings.get(name) for record in records] for name in names}
    differing = {name for name in names if any(value != values[name][0] for value in values[name])}
    lines = [
        row(
            element("code", name),
            *[_setting(record, name) for record in records],
            class_="differs" if name in differing else None,
        )
        for name in sorted(names, key=lambda name: name not in differing)
    ]
    about = "Pale is what the recipe chose."
    if len(records) > 1:
        about = f"Marked is what differs{'' if differing else ': nothing does'}. {about}"
    return section("Configuration", table(["", *heads(records)], lines, class_="settings"), about=about)


def heads(records: Sequence[Record]) -> list[Child]:
    """The runs' names, several with their colours."""
    if len(records) == 1:
        return [records[0].label]
    return [name_of(records, index) for index in range(len(records))]


def name_of(records: Sequence[Record], index: int) -> Markup:
    """One run's name beside its colour."""
    dot = element("i", class_=f"dot colour{index % COLOURS}") if len(records) > 1 else None
    return element("span", dot, records[index].label, class_="run")


def written(value: Any, write: Callable[[Any], str]) -> str:
    """A value in words, or a dash where there is none."""
    return write(value) if isinstance(value, int | float) else NOTHING


def _figure(name: str, values: Sequence[float | None]) -> Markup:
    known = [value for value in values if value is not None]
    best = (min if name.endswith("loss") else max)(known)
    marked = len(set(known)) > 1
    cells = [
        element("td", written(value, number), class_="best" if marked and value == best else None) for value in values
    ]
    return row(words(name), *cells)


def _seconds(record: Record) -> float | None:
    """Of all stages that are done, however often the run was interrupted."""
    spent = [stage["seconds"] for stage in record.stages.values() if isinstance(stage.get("seconds"), int | float)]
    return sum(spent) if spent else None


def _peak(record: Record) -> float | None:
    peaks = [stage["peak_memory"] for stage in record.stages.values() if isinstance(stage.get("peak_memory"), int)]
    return max(peaks, default=None)


def _state(record: Record) -> str:
    if record.summary:
        return "complete"
    if not record.history:
        return "begun; no epoch is done yet"
    return f"not complete; {record.history[-1]['stage']}, epoch {record.history[-1]['epoch']} is done"


def _setting(record: Record, name: str) -> Markup:
    value = record.settings.get(name)
    if value is None:
        return element("td", NOTHING, class_="pale")
    return element("td", _plain(value), class_="pale" if record.config.get(name) is None else None)


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
