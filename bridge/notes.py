"""What names and shapes cannot settle and a user should know."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .architecture import layers, walk
from .slots import Places
from .source import Source

KERAS_EPSILON = 1e-3


def epsilon_notes(source: Source, module: nn.Module, sources: Mapping[str, str], where: Places) -> list[str]:
    """Batch normalisations whose epsilon is not the file's, or not Keras's where the file does not say.

    `sources` gives the source layer of each module layer that something is copied to.
    """
    if source.layout != "keras":
        return []
    configs = {path: layer.config for path, layer in walk(layers(source.architecture))}
    targets = {slot.layer: slot.target.rpartition(".")[0] for slot in where.slots if slot.kind == "BatchNormalization"}
    notes = []
    for layer, target in targets.items():
        if layer not in sources:
            continue
        said = configs.get(sources[layer], {}).get("epsilon")
        epsilon = getattr(module.get_submodule(target), "eps", KERAS_EPSILON)
        if said is not None and epsilon != said:
            notes.append(f"{target} has eps={epsilon:g}, the file epsilon={said:g}: outputs differ until it is set.")
        elif said is None and epsilon != KERAS_EPSILON:
            notes.append(f"{target} has eps={epsilon:g}; Keras's default is 0.001 and this file does not say.")
    return notes
