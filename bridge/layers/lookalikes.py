"""Layers whose numbers fit a module that computes something else with them: they are named and not loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..source import Source
from .recurrent import config_of

LORA = re.compile(r"lora_\w+_[ab]")  # what Keras keeps beside a kernel or embeddings, to be multiplied and added
_OVER_LAST = re.compile(r"(?P<before>(\.\.\.)?\w*)(?P<given>\w),(?P=given)(?P<out>\w)->(?P<same>(\.\.\.)?\w*)(?P=out)")


def lookalike(source: Source, layer: str, roles: Iterable[str], kind: str) -> str | None:
    """Why these weights of a layer alone would not compute what it does, with the way out; None where they do."""
    config = config_of(source, layer)
    if any(map(LORA.fullmatch, roles)):
        return (
            f"{layer} has LoRA adapters beside its weights, which have to be added to them. Save the model as "
            f".keras or .weights.h5, where they are, or load it as it was before them with skip '*/lora_*'."
        )
    if source.kinds.get(layer) == "EinsumDense" and not _as_dense(str(config.get("equation") or "bc,cd->bd")):
        return (
            f"{layer} computes {config['equation']!r}, which the counterpart of a Dense layer does not. Write it with "
            f"torch.einsum and a parameter of your own, and leave it out with skip {layer!r}."
        )
    if kind == "LayerNormalization" and config.get("rms_scaling"):
        return (
            f"{layer} has rms_scaling=True, and nn.LayerNorm computes no such thing. Write it with a parameter of your "
            f"own, and leave it out with skip {layer!r}."
        )
    return None


def _as_dense(equation: str) -> bool:
    """Whether an equation is that of Dense: over the last axis, "abc,cd->abd" or "...c,cd->...d"."""
    found = _OVER_LAST.fullmatch(equation.replace(" ", ""))
    if found is None or found["before"] != found["same"]:
        return False
    return found["given"] != found["out"] and not {found["given"], found["out"]} & set(found["before"])
