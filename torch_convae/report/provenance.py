"""Where the weights of a run came from: the bridge's plan, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compare import name_of
from .html import Child, Markup, element, row, section, table
from .record import Record

KINDS = {  # key of the plan -> what it is, and the columns of its table
    "copied": (
        "loaded",
        {"source": "from", "from_shape": "shape", "target": "to", "to_shape": "shape", "transform": "how"},
    ),
    "filled": ("filled", {"target": "parameter", "value": "with"}),
    "skipped": ("skipped", {"source": "of the file", "reason": "because"}),
    "untouched": ("untouched", {"target": "parameter", "reason": "because"}),
}


def provenance(records: Sequence[Record]) -> Markup:
    """Each run's file of weights: what was loaded, skipped, left untouched, each by name."""
    return section("Weights", [_run(records, index) for index in range(len(records))])


def _run(records: Sequence[Record], index: int) -> Markup:
    plan = records[index].weights
    title = element("h3", name_of(records, index)) if len(records) > 1 else None
    if not plan:
        return Markup((title or "") + element("p", "Began with random weights; no file was loaded."))
    told = [element("code", plan.get("source", "")), " into ", plan.get("module", "")]
    notes = [element("li", note) for note in plan.get("notes", ())]
    return Markup(
        (title or "")
        + element("p", told, _expects(plan))
        + element("ul", [_count(plan, kind) for kind in KINDS], class_="counts")
        + element("p", _checked(plan), class_="about")
        + (element("ul", *notes) if notes else "")
        + "".join(_details(plan, kind) for kind in KINDS)
    )


def _expects(plan: Mapping[str, Any]) -> str:
    expected = plan.get("preprocessing")
    return f"; preprocessing: {expected['mode']}" if isinstance(expected, dict) and "mode" in expected else ""


def _count(plan: Mapping[str, Any], kind: str) -> Markup:
    return element("li", element("b", len(plan.get(kind, ()))), KINDS[kind][0], class_=kind)


def _checked(plan: Mapping[str, Any]) -> str:
    if plan.get("verified"):
        return "Proved layer by layer against a reference."
    ambiguous = sum(bool(copy.get("ambiguous")) for copy in plan.get("copied", ()) if isinstance(copy, dict))
    if not ambiguous:
        return "No tensor would have fitted with its axes in another order."
    return f"{ambiguous} tensors would fit with their axes in another order, too; python -m bridge verify proves them."


def _details(plan: Mapping[str, Any], kind: str) -> Markup:
    """A table that opens on a click, without a script."""
    lines = [line for line in plan.get(kind, ()) if isinstance(line, dict)]
    if not lines:
        return Markup("")
    title, columns = KINDS[kind]
    first, *rest = columns
    rows = [row(element("code", line.get(first)), *[_cell(line.get(key)) for key in rest]) for line in lines]
    summary = element("summary", f"{len(lines)} {title}")
    return element("details", summary, table(columns.values(), rows, class_="plan"))


def _cell(value: Any) -> Child:
    return " x ".join(map(str, value)) or "scalar" if isinstance(value, list) else value
