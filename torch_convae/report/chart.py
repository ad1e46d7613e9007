"""Curves over epochs as SVG, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..words import number
from .html import Markup, element

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 34
SPREAD = 30  # from which ratio of its values on an axis of losses is logarithmic
TICKS = 5


Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Pieces of points (epoch, value) under a name; `colour` and `dash` count styles of the page."""

    name: str
    pieces: tuple[tuple[Point, ...], ...]
    colour: int = 0
    dash: int = 0


@dataclass(frozen=True)
class Band:
    """A stage from its first epoch to its last."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` as pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, in pixels."""
        low, high, value = (math.log10(x) if self.logarithmic else x for x in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def chart(title: str, curves: Sequence[Curve], bands: Sequence[Band] = ()) -> Markup:
    """A panel of curves, its stages marked; points that are no numbers leave gaps."""
    finite = [_finite(curve) for curve in curves]
    points = [point for curve in finite for piece in curve.pieces for point in piece]
    x = _epochs(points)
    y = _values([value for _, value in points], title)
    drawing = element(
        "svg",
        [_band(band, x, odd=bool(index % 2)) for index, band in enumerate(bands)],
        [_horizontal(tick, y) for tick in _ticks(y)],
        [_epoch(tick, x) for tick in _whole_ticks(x)],
        [_line(curve, piece, x, y) for curve in finite for piece in curve.pieces],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title} by epoch",
    )
    caption = element("figcaption", title, " (logarithmic)" if y.logarithmic else None)
    return element("figure", caption, drawing, class_="chart")


def _finite(curve: Curve) -> Curve:
    pieces = (tuple(point for point in piece if math.isfinite(point[1])) for piece in curve.pieces)
    return replace(curve, pieces=tuple(piece for piece in pieces if piece))


def _epochs(points: Sequence[Point]) -> Axis:
    last = max((epoch for epoch, _ in points), default=1)
    return Axis(0.5, last + 0.5, LEFT, WIDTH - RIGHT)


def _values(values: Sequence[float], title: str) -> Axis:
    if not values:
        return Axis(0, 1, HEIGHT - BOTTOM, TOP)
    low, high = min(values), max(values)
    if "loss" in title and low > 0 and high / low > SPREAD:
        return Axis(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, logarithmic=True)
    room = (high - low or abs(high) or 1) * 0.06
    return Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)


def _ticks(axis: Axis) -> list[float]:
    """Round values along the axis."""
    if axis.logarithmic:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        return [tick for tick in found if axis.low <= tick <= axis.high]
    step = _round_step((axis.high - axis.low) / TICKS)
    first = math.ceil(axis.low / step)
    return [index * step for index in range(first, math.floor(axis.high / step) + 1)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)


def _whole_ticks(axis: Axis) -> list[int]:
    last = int(axis.high)
    step = max(1, math.ceil(_round_step(max(last / 10, 1))))
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _horizontal(tick: float, axis: Axis) -> Markup:
    y = axis.place(tick)
    line = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
    return Markup(line + element("text", _tick_label(tick), x=LEFT - 8, y=y + 4, text_anchor="end"))


def _tick_label(tick: float) -> str:
    return number(0) if abs(tick) < 1e-12 else f"{tick:.6g}"


def _epoch(tick: int, axis: Axis) -> Markup:
    return element("text", tick, x=axis.place(tick), y=HEIGHT - BOTTOM + 20, text_anchor="middle")


def _band(band: Band, axis: Axis, odd: bool) -> Markup:
    left, right = axis.place(band.first - 0.5), axis.place(band.last + 0.5)
    shape = element(
        "rect",
        x=left,
        y=TOP,
        width=round(right - left, 1),
        height=HEIGHT - TOP - BOTTOM,
        class_="odd" if odd else "even",
    )
    name = element("text", band.name, x=(left + right) / 2, y=TOP - 9, text_anchor="middle", class_="stage")
    return Markup(shape + name)


def _line(curve: Curve, piece: Sequence[Point], x: Axis, y: Axis) -> Markup:
    places = [(x.place(epoch), y.place(value)) for epoch, value in piece]
    path = element("polyline", points=" ".join(f"{left},{top}" for left, top in places))
    dots = [
        element("circle", element("title", f"{curve.name}, epoch {epoch:g}: {number(value)}"), cx=left, cy=top, r=3)
        for (epoch, value), (left, top) in zip(piece, places, strict=True)
    ]
    return element("g", path, dots, class_=f"curve colour{curve.colour} dash{curve.dash}")
