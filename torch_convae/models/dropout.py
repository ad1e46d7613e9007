"""How much of a network's values dropout leaves out."""

from __future__ import annotations

from torch import nn

from ..errors import ConvaeError


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Let every Dropout of the model leave out that share; None keeps what it has, no Dropout at all is refused."""
    if share is None:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    if not layers:
        raise ConvaeError(f"{type(model).__name__} has no Dropout. Leave --dropout {share:g} out.")
    for layer in layers:
        layer.p = share
