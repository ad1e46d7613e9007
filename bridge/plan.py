"""What a load would do, decided from names and shapes alone, and readable by a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .layouts import Transform
from .source import Shape


@dataclass(frozen=True)
class Copy:
    """One tensor's way from the source to its place."""

    source: str
    target: str
    transform: Transform
    from_shape: Shape
    to_shape: Shape


@dataclass(frozen=True)
class Plan:
    """Every source tensor and every target parameter, accounted for by name.

    `copied` by source key, `filled` by target with the constant a Keras layer without that weight
    computes with, `skipped` source keys, `untouched` target names; `reasons` says why for the last
    two. `notes` are things a user should know that names and shapes cannot settle.
    """

    source: str
    module: str
    copied: Mapping[str, Copy]
    filled: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    preprocessing: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return {
            "source": self.source,
            "module": self.module,
            "preprocessing": self.preprocessing,
            "copied": [
                {
                    "source": copy.source,
                    "target": copy.target,
                    "transform": str(copy.transform),
                    "from_shape": list(copy.from_shape),
                    "to_shape": list(copy.to_shape),
                }
                for copy in self.copied.values()
            ],
            "filled": [{"target": target, "value": value} for target, value in self.filled.items()],
            "skipped": [{"source": name, "reason": self.reasons[name]} for name in self.skipped],
            "untouched": [{"target": name, "reason": self.reasons[name]} for name in self.untouched],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts = f"{len(self.copied)} copied, {len(self.skipped)} skipped, {len(self.untouched)} untouched"
        parts = [f"{self.source} -> {self.module}: {counts}"]
        if self.preprocessing:
            parts.append(f"expects {self.preprocessing}")
        rows = [
            (
                copy.source,
                str(list(copy.from_shape)),
                copy.target,
                str(list(copy.to_shape)),
                str(copy.transform),
            )
            for copy in self.copied.values()
        ]
        parts += table([("copied from", "Keras order" if self.keras else "shape", "to", "shape", "how"), *rows])
        parts += _listed(
            "filled",
            [(name, f"{value:g}: the Keras layer has no such weight") for name, value in self.filled.items()],
        )
        parts += _listed("skipped", [(name, self.reasons[name]) for name in self.skipped])
        parts += _listed("untouched", [(name, self.reasons[name]) for name in self.untouched])
        return "\n".join(parts + [f"note: {note}" for note in self.notes])

    @property
    def keras(self) -> bool:
        """Whether any array changes its axes, as those of Keras do."""
        return any(copy.from_shape != copy.to_shape for copy in self.copied.values())


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns; the first row is the heading."""
    if len(rows) < 2:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _listed(title: str, rows: list[tuple[str, str]]) -> list[str]:
    return ["", *table([(title, "because" if title != "filled" else "with"), *rows])] if rows else []
