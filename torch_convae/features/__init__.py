"""What a network's layers give for images: `torch_convae.features` in Python, `python -m` for files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from ..layers import capture, find
from ..layers import layers as layers_of
from ..models import evaluating
from .shape import check_shape, shaped


def features(
    model: nn.Module, x: Tensor, layers: str | Sequence[str], *, pool: str | None = None, order: str = "chw"
) -> dict[str, Tensor]:
    """What these layers give for x, by the names asked for: each (N, C, H, W), or (N, C) behind the last map.

    The names are Keras's, which mean what Keras's layer gives, its activation included (`block5_conv3`;
    `block5_conv3:pre` without it), torchvision's and a module's path, which mean what that module gives
    (`features.28` before its ReLU, `features.29` after it). `pool` is "avg", "max" or "flatten"; `order`
    "chw", or "hwc" as in Keras, is that of the axes, flattened or not.

    x is what `forward` takes; images uint8 of 0..255 pass the model's preprocessing first. The model computes
    in evaluation mode and is left as it was. An unknown layer is refused with the nearest names.
    """
    check_shape(pool, order)
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ConvaeError("No layer was asked for. Name one, as 'block5_conv3'.")
    given = prepared(model, x)
    known = layers_of(model, tuple(given.shape[1:]))
    wanted = {name: find(known, name) for name in names}
    with torch.no_grad(), evaluating(model):
        outputs = capture(model, given, frozenset(layer.step for layer in wanted.values()))
    return {name: shaped(layer, outputs[layer.step], len(given), pool, order) for name, layer in wanted.items()}


def prepared(model: nn.Module, x: Tensor) -> Tensor:
    """x where the model is, and as its `forward` takes it."""
    where = next(model.parameters())
    given = torch.as_tensor(x).to(where.device)
    if given.dtype == torch.uint8:
        preprocessing = getattr(model, "preprocessing", None)
        if not callable(preprocessing):
            raise ConvaeError(f"{type(model).__name__} does not say how images are prepared. Give it what it takes.")
        given = preprocessing(given)
    return given.to(where.dtype)
