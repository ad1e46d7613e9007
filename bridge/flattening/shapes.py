"""Layers by the shapes of their weights: convolutions, and what takes values in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..source import Shape
from .sizes import Sizes

Shapes = Mapping[str, Shape]  # role -> shape


@dataclass(frozen=True)
class Convolution:
    """Over how many axes, from how many channels, to how many."""

    rank: int
    taken: int
    given: int
    transposed: bool = False


def convolution(layer: str, shapes: Shapes, kind: str | None) -> Convolution | None:
    """A layer as a convolution; None where it is none."""
    kernel = shapes.get("pointwise_kernel") or shapes.get("kernel") or ()
    bias, rank = shapes.get("bias", ()), len(kernel) - 2
    attention = len(bias) > 1 or layer.rpartition("/")[2] == "attention_output"  # has kernels of three axes, too
    if rank not in (1, 2, 3) or (attention and rank == 1) or (kind or "Conv") == "EinsumDense":
        return None
    if len(shapes.get("recurrent_kernel", ())) > 1:  # ConvLSTM: four gates
        return Convolution(rank, kernel[-2], shapes["recurrent_kernel"][-2])
    if (kind or "").startswith("Depthwise"):
        return Convolution(rank, kernel[-2], kernel[-2] * kernel[-1])
    transposed = (kind or "").endswith("Transpose") or (len(bias) == 1 and bias[0] == kernel[-2] != kernel[-1] != 1)
    inputs, given = kernel[-2:] if not transposed else (kernel[-1], kernel[-2])
    named = (kind or layer.rpartition("/")[2].replace("_", "")).lower()
    return Convolution(rank, inputs, bias[0] if bias else given, transposed or "transpose" in named)


def taken(shapes: Shapes) -> int | None:
    """How many values a Dense or recurrent layer takes."""
    kernel = shapes.get("kernel", ())
    return kernel[0] if len(kernel) == 2 else None


def places(count: int, rank: int) -> Sizes:
    """The sides of a square or a cube of so many places; steps of time are as many as they are."""
    side = round(count ** (1 / rank))
    return (side,) * rank if side**rank == count else (None,) * rank
