"""Whether a file of Keras 0 or 1 has its channels first, as Theano ("th"), or last, as TensorFlow ("tf")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import BridgeError
from ..source import Shape

ORDERINGS = ("th", "tf")
WIDEST = 11  # a side of a kernel's window: one of 64 x 3 is none

Layers = Mapping[str, Mapping[str, Shape]]  # layer -> role -> shape


def ordering(layers: Layers, kinds: Mapping[str, str], configured: str | None, said: str | None) -> tuple[str, str]:
    """The ordering of all kernels of a file, and what is to be noted of it, or "".

    Where the configuration does not say it, kernels are held against the number of biases: the last
    axis counts the outputs in "tf", the first in "th". The layers that tell decide for those that do
    not. Where none does, what is said decides, or what looks like a window, or else it is "tf".
    Refused: layers that contradict each other, the configuration or what is said.
    """
    found = {configured: "its configuration says so"} if configured else {}
    kernels = _kernels(layers, kinds)
    for layer, kernel in kernels.items():
        count = outputs(layers[layer])
        if count and (kernel[0] == count) != (kernel[-1] == count):
            tells = "tf" if kernel[-1] == count else "th"
            found.setdefault(tells, f"{layer} has the kernel {kernel} and {count} biases")
    if len(found) == 2:
        raise BridgeError(f"dim_ordering is 'tf' ({found['tf']}) and 'th' ({found['th']}) in one. Get the file again.")
    known = next(iter(found), None)
    if said and known and said != known:
        raise BridgeError(f"dim_ordering is not {said!r} but {known!r}: {found[known]}. Leave the option out.")
    decided = known or said or _likely(kernels.values())
    if decided or not kernels:
        return decided or "tf", ""
    layer, shape = next(iter(kernels.items()))
    return "tf", f"{layer}'s kernel {shape} may have its channels last or first: taken as last, dim_ordering='tf'."


def configured(architecture: Mapping[str, Any] | None) -> str | None:
    """The ordering that all layers of a Keras 1 configuration have; None where it says none or two."""
    found: set[str] = set()
    left: list[Any] = [architecture]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            found |= {each["dim_ordering"]} & set(ORDERINGS) if isinstance(each.get("dim_ordering"), str) else set()
        left += list(each.values()) if isinstance(each, dict) else each if isinstance(each, list) else []
    return found.pop() if len(found) == 1 else None


def outputs(shapes: Mapping[str, Shape]) -> int | None:
    """How many outputs a layer has, where it has biases."""
    bias = shapes.get("bias") or shapes.get("b_i")
    return bias[0] if bias and len(bias) == 1 else None


def is_line(shapes: Mapping[str, Shape]) -> bool:
    """Whether this is Keras 1.0's kernel of a Conv1D: (out, in, steps, 1), which no other has among channels last.

    One of a single place is rather that of a Conv2D with its channels first.
    """
    kernel = shapes.get("kernel", ())
    return len(kernel) == 4 and kernel[3] == 1 < kernel[2] and kernel[0] == outputs(shapes) != 1


def _kernels(layers: Layers, kinds: Mapping[str, str]) -> dict[str, Shape]:
    """The kernels by which an ordering can be told: of convolutions over two axes or three."""
    found = {}
    for layer, shapes in layers.items():
        kernel = shapes.get("pointwise_kernel") or shapes.get("kernel") or shapes.get("W_i") or ()
        line = kinds.get(layer) == "Conv1D" or (layer not in kinds and is_line(shapes))
        if len(kernel) in (4, 5) and not line:
            found[layer] = kernel
    return found


def _likely(kernels: Iterable[Shape]) -> str | None:
    """The ordering in which the windows of all kernels look like windows; None where they disagree."""
    found = set()
    for kernel in kernels:
        last, first = kernel[:-2], kernel[2:]
        for looks in (max(last) <= WIDEST, max(first) <= WIDEST), (len(set(last)) == 1, len(set(first)) == 1):
            if looks[0] != looks[1]:
                found.add("tf" if looks[0] else "th")
                break
    return found.pop() if len(found) == 1 else None
