"""HTML from values: text becomes markup in one place, where it is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

Child = object  # Markup stands as it is, a list of children one after the other, all else as its text
VOID = frozenset({"img", "meta", "line", "circle", "rect", "polyline"})


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """One element. `class_` is the attribute class, `stroke_width` is stroke-width; None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children one after the other, as markup."""
    return Markup("".join(_markup(child) for child in children))


def _markup(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return joined(child)
    return "" if child is None else escape(str(child))


def table(head: Iterable[Child], rows: Iterable[Child], **attributes: object) -> Markup:
    """A table that scrolls by itself where the page is narrow; `rows` are `row`s."""
    columns = [element("th", title, scope="col") for title in head]
    made = element("table", element("thead", element("tr", columns)), element("tbody", *rows), **attributes)
    return element("div", made, class_="scroll")


def row(title: Child, *cells: Child, **attributes: object) -> Markup:
    """A line of a table under its own heading; a cell that is no <td> yet becomes one."""
    made = [cell if str(cell).startswith("<td") and isinstance(cell, Markup) else element("td", cell) for cell in cells]
    return element("tr", element("th", title, scope="row"), made, **attributes)


def section(title: str, *children: Child, about: str | None = None) -> Markup:
    """A part of the page under its heading."""
    note = element("p", about, class_="about") if about else None
    return element("section", element("h2", title), note, *children)
