"""The stages of runs: what trained, how long, how much memory, and the proof that the rest stood still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..words import duration, number, size
from .compare import NOTHING, name_of, written
from .html import Markup, element, row, section, table
from .record import Record

HEAD = ("stage", "epochs", "rate", "trains", "parameters that train", "frozen, SHA-256", "time", "peak memory")


def stages(records: Sequence[Record]) -> Markup | None:
    """A table a run; None where no run says anything of its stages."""
    if not any(record.stages for record in records):
        return None
    about = "What is frozen is hashed when a stage starts and when it ends; a run with two different hashes stops."
    return section("Stages", [_stages(records, index) for index in range(len(records))], about=about)


def _stages(records: Sequence[Record], index: int) -> Markup:
    record = records[index]
    title = element("h3", name_of(records, index)) if len(records) > 1 else None
    lines = [_stage(name, stage, record.outline.get("parameters")) for name, stage in record.stages.items()]
    total = sum(stage["seconds"] for stage in record.stages.values() if isinstance(stage.get("seconds"), int | float))
    return Markup((title or "") + table(HEAD, lines, class_="stages") + (_shares(record, total) if total else ""))


def _stage(name: str, stage: Mapping[str, Any], parameters: Any) -> Markup:
    patterns = stage.get("trained", ())
    hashed = str(stage.get("frozen_sha256", NOTHING))
    return row(
        name,
        written(stage.get("epochs"), number),
        written(stage.get("lr"), lambda rate: f"{rate:g}"),
        [[element("code", pattern), " "] for pattern in patterns if isinstance(patterns, list | tuple)],
        _trained(stage.get("trained_parameters"), parameters),
        element("td", element("code", hashed[:12], title=hashed) if hashed != "nothing" else "nothing is frozen"),
        written(stage.get("seconds"), duration),
        written(stage.get("peak_memory"), size),
    )


def _trained(count: Any, parameters: Any) -> Markup:
    """How many train, with their share of all as a bar."""
    bar = None
    if isinstance(count, int) and isinstance(parameters, int) and parameters:
        bar = meter(count / parameters)
    return element("td", written(count, number), bar)


def meter(share: float, colour: int = 0) -> Markup:
    """A share of one as a bar."""
    filled = element(
        "rect", width=round(100 * min(max(share, 0.0), 1.0), 1), height=6, rx=3, class_=f"fill colour{colour}"
    )
    empty = element("rect", width=100, height=6, rx=3, class_="empty")
    return element("svg", empty, filled, viewBox="0 0 100 6", class_="meter", aria_hidden="true")


def _shares(record: Record, total: float) -> Markup:
    """The time of the stages as one bar."""
    parts, left = [], 0.0
    for index, (name, stage) in enumerate(record.stages.items()):
        seconds = stage.get("seconds")
        if isinstance(seconds, int | float):
            width = 100 * seconds / total
            shape = element("rect", x=round(left, 2), width=round(width, 2), height=4, class_=f"fill colour{index % 8}")
            parts.append(element("g", shape, element("title", f"{name}: {duration(seconds)}")))
            left += width
    drawn = element("svg", *parts, viewBox="0 0 100 4", preserveAspectRatio="none", class_="shares", role="img")
    return element("p", "Time by stage: ", duration(total), drawn, class_="time")
