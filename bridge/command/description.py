"""What a file holds and says of itself, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ..errors import one_line
from ..plan import table
from ..source import Source, key_of


def describe(source: Source) -> dict[str, Any]:
    """A source as plain JSON values."""
    return {
        "file": str(source.path),
        "format": source.format,
        "layout": source.layout,
        "keras_version": source.keras_version,
        "backend": source.backend,
        "preprocessing": source.preprocessing.to_dict() if source.preprocessing else None,
        "tensors": len(source),
        "parameters": sum(prod(shape) for shape in source.shapes.values()),
        "layers": [
            {
                "name": layer,
                "class": source.kinds.get(layer),
                "weights": {
                    role: {
                        "shape": list(shape),
                        "dtype": source.stored[key_of(layer, role)].dtype,
                    }
                    for role, shape in shapes.items()
                },
            }
            for layer, shapes in source.layers.items()
        ],
        "notes": list(source.notes),
        "undecided": source.undecided,
    }


def listing(source: Source, described: Mapping[str, Any]) -> str:
    """A source as a person reads it: a heading, a line for each weight, and what is to be known of them."""
    heading = [
        one_line(f"{name.replace('_', ' '):15}{described[name]}")
        for name in ("file", "format", "keras_version", "backend", "tensors", "parameters")
        if described[name] is not None
    ]
    heading += [f"{'preprocessing':15}{source.preprocessing or 'not known'}", ""]
    rows = [
        (
            key.rpartition("/")[0],
            source.kinds.get(key.rpartition("/")[0], ""),
            key.rpartition("/")[2],
            str(list(stored.shape)),
            stored.dtype,
        )
        for key, stored in source.stored.items()
    ]
    lines = [*heading, *table([("layer", "class", "weight", "shape", "type"), *rows])]
    lines += [f"note: {note}" for note in (*source.notes, *([source.undecided] if source.undecided else []))]
    return "\n".join(map(one_line, lines))
