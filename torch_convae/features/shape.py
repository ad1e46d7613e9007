"""What is made of a layer's output: pooled, flattened, its axes in another order, and said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..errors import ConvaeError
from ..layers import Layer

ORDERS = ("chw", "hwc")  # PyTorch's, and Keras's
POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda maps: maps.mean((-2, -1)),
    "max": lambda maps: maps.amax((-2, -1)),
    "flatten": lambda maps: maps.flatten(-3),
}


def check_shape(pool: str | None, order: str) -> None:
    """Refuse what is no way to pool, or no order of axes."""
    if pool is not None and pool not in POOLS:
        raise ConvaeError(f"There is no pooling {pool!r}; there are {', '.join(POOLS)}.")
    if order not in ORDERS:
        raise ConvaeError(f"There is no order of axes {order!r}; there are {' and '.join(ORDERS)}.")


def shaped(layer: Layer, output: Tensor, inputs: int, pool: str | None, order: str) -> Tensor:
    """The output of a layer, one row for each of the inputs, pooled over its map and with its axes in that order.

    A vector stays what it is under any pooling; one that the network itself flattened can be had in Keras's order.
    """
    rows = layer.channels_first(output if len(output) == inputs else output.reshape(inputs, -1, *output.shape[1:]))
    if layer.kind.startswith("Global"):
        rows = rows.reshape(*rows.shape[:-2]) if rows.shape[-2:] == (1, 1) else rows
    if layer.flattened and order == "hwc":
        return rows.reshape(*rows.shape[:-1], *layer.flattened[-3:]).movedim(-3, -1).flatten(-3)
    if rows.ndim < 4:
        return rows
    if pool in ("avg", "max"):
        return POOLS[pool](rows)
    ordered = rows.movedim(-3, -1) if order == "hwc" else rows
    return POOLS[pool](ordered) if pool else ordered


def axes(layer: Layer, pool: str | None, order: str) -> str:
    """The axes of `shaped`, as einops writes them: N inputs, T times, C channels; (C H W) is flattened."""
    time = "N T" if len(layer.shape) in (2, 4) else "N"
    inner = " ".join(order.upper())
    if layer.flattened:
        return f"{time} ({inner})"
    if len(layer.shape) < 3 or pool in ("avg", "max"):
        return f"{time} C"
    return f"{time} ({inner})" if pool else f"{time} {inner}"
