"""The whole page: its parts in order, its style and pictures within it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.resources import files

from ..words import number, words
from .classes import classes
from .compare import configuration, name_of, results
from .curves import curves
from .html import Markup, element, joined, section
from .provenance import provenance
from .record import Record
from .stages import stages

SHOWN_FIGURES = 4


def page(records: Sequence[Record]) -> str:
    """One HTML document of one run, or of several side by side, that loads nothing from anywhere."""
    title = records[0].label if len(records) == 1 else f"{len(records)} runs compared"
    style = files(__package__).joinpath("style.css").read_text()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} - torch-convae"),
        element("style", Markup(style)),
    )
    parts = [
        _header(title, records),
        results(records),
        curves(records),
        classes(records),
        _pictures(records),
        stages(records),
        provenance(records),
        configuration(records),
        _footer(records),
    ]
    return (
        "<!doctype html>\n"
        + element(
            "html",
            head,
            element("body", element("main", *parts), class_="alone" if len(records) == 1 else None),
            lang="en",
        )
        + "\n"
    )


def _header(title: str, records: Sequence[Record]) -> Markup:
    told = [_told(record) for record in records]
    about = "; ".join(dict.fromkeys(told))
    return element(
        "header", element("h1", title), element("p", about), _tiles(records[0]) if len(records) == 1 else None
    )


def _told(record: Record) -> str:
    data = record.outline.get("data", {})
    counts = ", ".join(f"{shape[0]:,} {name}" for name, shape in data.get("splits", {}).items())
    name = record.summary.get("data") or data.get("name") or record.config.get("data")
    on = f" on {name}" if name else ""
    return f"{record.config['recipe']}{on}" + (f" ({counts})" if counts else "")


def _tiles(record: Record) -> Markup | None:
    """The final figures, large."""
    figures = list(record.figures.items())
    figures.sort(key=lambda item: item[0].endswith("loss"))
    shown = [
        element("li", element("b", number(value)), element("span", words(name)))
        for name, value in figures[:SHOWN_FIGURES]
    ]
    return element("ul", *shown, class_="tiles") if shown else None


def _pictures(records: Sequence[Record]) -> Markup | None:
    names = dict.fromkeys(name for record in records for name in record.pictures)
    if not names:
        return None
    shown = [
        element("figure", element("figcaption", name_of(records, index), f": {words(name)}"), _picture(name, record))
        for name in names
        for index, record in enumerate(records)
        if name in record.pictures
    ]
    return section("Pictures", element("div", *shown, class_="pictures"))


def _picture(name: str, record: Record) -> Markup:
    content = b64encode(record.pictures[name]).decode()
    return element("img", src=f"data:image/png;base64,{content}", alt=f"{words(name)} of {record.label}")


def _footer(records: Sequence[Record]) -> Markup:
    versions = dict.fromkeys(
        f"PyTorch {record.summary['torch']} on {record.summary.get('device')}"
        for record in records
        if "torch" in record.summary
    )
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    folders = joined([element("code", record.folder), " "] for record in records)
    return element("footer", folders, element("p", "; ".join([*versions, f"made by torch-convae, {made}"])))
