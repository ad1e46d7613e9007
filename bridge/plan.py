"""What a load would do, decided from names and shapes alone, and readable by a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .layers.transform import Transform
from .preprocessing import Preprocessing
from .source import Shape

WIDEST = 100  # characters of a column


@dataclass(frozen=True)
class Copy:
    """One tensor's way from the source to its place.

    `how` is what was done to it before (an adaptation), `rows` are the target's rows it fills where they
    are not all.
    """

    source: str
    target: str
    transform: Transform
    from_shape: Shape
    to_shape: Shape
    how: str = ""
    rows: tuple[int, ...] | None = None

    @property
    def fits(self) -> bool:
        """Whether the result has the shape of its place."""
        becomes = self.transform.shape(self.from_shape)
        if self.rows is None:
            return becomes == self.to_shape
        inside = becomes[:1] == (len(self.rows),) and max(self.rows, default=0) < (self.to_shape or (0,))[0]
        return inside and becomes[1:] == self.to_shape[1:]

    @property
    def ambiguous(self) -> bool:
        """Whether another order of the axes would fit as well, so that the shape proves nothing about it."""
        return self.transform.axes != tuple(range(len(self.transform.axes))) and bool(
            self.transform.alternatives(self.from_shape)
        )

    @property
    def steps(self) -> str:
        """What happens on the way, in words."""
        rows = f"into rows {_ranges(self.rows)}" if self.rows is not None else ""
        moved = "" if str(self.transform) == "as is" and (self.how or rows) else str(self.transform)
        return "; ".join(part for part in (self.how, moved, rows) if part)


@dataclass(frozen=True)
class Plan:
    """Every source tensor and every target parameter, accounted for by name.

    `copied` by source key (with [0] or [1] behind it for the rows of one array that go to two places),
    `filled` by target with the constant a Keras layer without that weight computes with, `skipped` source
    keys, `untouched` target names; `reasons` says why for the last two. `notes` are things a user should
    know that names and shapes cannot settle. `verified` is true once `bridge.verify` has proved it.
    """

    source: str
    module: str
    copied: Mapping[str, Copy]
    filled: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    verified: bool = False

    @property
    def ambiguous(self) -> tuple[str, ...]:
        """The copied tensors whose shape also fits in another order of the axes, until numbers prove them."""
        return () if self.verified else tuple(key for key, copy in self.copied.items() if copy.ambiguous)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return {
            "source": self.source,
            "module": self.module,
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "copied": [
                {
                    "source": copy.source,
                    "target": copy.target,
                    "transform": copy.steps,
                    "from_shape": list(copy.from_shape),
                    "to_shape": list(copy.to_shape),
                    "rows": None if copy.rows is None else list(copy.rows),
                    "ambiguous": not self.verified and copy.ambiguous,
                }
                for copy in self.copied.values()
            ],
            "filled": [{"target": target, "value": value} for target, value in self.filled.items()],
            "skipped": [{"source": name, "reason": self.reasons[name]} for name in self.skipped],
            "untouched": [{"target": name, "reason": self.reasons[name]} for name in self.untouched],
            "notes": list(self.notes),
            "verified": self.verified,
        }

    def __str__(self) -> str:
        counts = f"{len(self.copied)} copied, {len(self.skipped)} skipped, {len(self.untouched)} untouched"
        parts = [f"{self.source} -> {self.module}: {counts}"]
        if self.preprocessing:
            parts.append(f"expects {self.preprocessing}")
        ambiguous = set(self.ambiguous)
        rows = [
            (
                key,
                str(list(copy.from_shape)),
                copy.target,
                str(list(copy.to_shape)),
                copy.steps + (" *" if key in ambiguous else ""),
            )
            for key, copy in self.copied.items()
        ]
        parts += table([("copied from", "Keras order" if self.keras else "shape", "to", "shape", "how"), *rows])
        parts += _listed(
            "filled",
            [(name, f"{value:g}: the Keras layer has no such weight") for name, value in self.filled.items()],
        )
        parts += _listed("skipped", [(name, self.reasons[name]) for name in self.skipped])
        parts += _listed("untouched", [(name, self.reasons[name]) for name in self.untouched])
        if ambiguous:
            parts += [
                "",
                f"* {len(ambiguous)} tensors would fit with their axes in another order, too; verify proves them.",
            ]
        return "\n".join(parts + [f"note: {note}" for note in self.notes])

    @property
    def keras(self) -> bool:
        """Whether any array changes its axes, as those of Keras do."""
        return any(copy.from_shape != copy.to_shape for copy in self.copied.values())


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns; the first row is the heading. A row with a very long cell stands out."""
    if len(rows) < 2:
        return []
    # One long name does not make every other row as long.
    widths = [min(WIDEST, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _listed(title: str, rows: list[tuple[str, str]]) -> list[str]:
    return ["", *table([(title, "because" if title != "filled" else "with"), *rows])] if rows else []


def _ranges(rows: tuple[int, ...]) -> str:
    """Numbers with runs put together: 0-4, 7."""
    parts: list[list[int]] = []
    for row in rows:
        if parts and row == parts[-1][1] + 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
