"""Trials for convolutions of every kind.

The weights do not depend on how a layer pads, and a module may pad in another layer than Keras does. So
each trial takes the module's own strides and dilation, and one padding after the other until one agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..reference import compute
from ..reference.convolution import each, option
from ..source import Array, Shape
from .trial import Case, Trial, answer, channels_first, random

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def convolution(case: Case) -> Iterator[Trial]:
    """Conv1D to 3D and DepthwiseConv1D and 2D."""
    layer = case.module
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    for inputs, expected, how in _padded(case, layer):
        yield Trial(inputs, channels_first(expected), how, layer.forward)


def separable(case: Case) -> Iterator[Trial]:
    """SeparableConv1D and 2D: the container's two convolutions, and all that it computes between them."""
    first, _ = _steps(case.module)
    for inputs, expected, how in _padded(case, first):
        yield Trial(inputs, channels_first(expected), how, _run(case))


def _steps(container: nn.Module) -> tuple[Any, nn.Module]:
    """The convolution over each channel and the one over all of them."""
    first, second = (child for child in container.children() if any(True for _ in child.parameters()))
    return first, second


def _run(case: Case) -> Callable[[Tensor], Tensor]:
    """What the layer gives; of a container that is what its second convolution gives, as an activation may follow."""
    if isinstance(case.module, CONVOLUTIONS):
        return case.module.forward
    first, second = _steps(case.module)
    if not _computes(case.module):
        return lambda x: second(first(x))

    def up_to_second(x: Tensor) -> Tensor:
        given: list[Tensor] = []
        hook = second.register_forward_hook(lambda _module, _inputs, output: given.append(output))
        try:
            case.module(x)
        except Exception:
            if not given:
                raise
        finally:
            hook.remove()
        return given[-1]

    return up_to_second


def _computes(container: nn.Module) -> bool:
    """Whether it says what it computes: nn.ModuleList and nn.ModuleDict leave that to the module around."""
    return type(container).forward is not nn.Module.forward


def container_remark(case: Case) -> str:
    """What the proof of a separable convolution leaves out: what nobody says, and what stands behind its two steps."""
    if not case.kind.startswith("Separable"):
        return ""
    if not _computes(case.module):
        return "its two convolutions one after the other: right only where the module around does nothing between them"
    first, _ = _steps(case.module)
    inputs = channels_first(random(1, *sizes(first), first.in_channels))
    steps = answer(Trial(inputs, inputs, "", _run(case)), None)
    with suppress(Exception):  # what stands behind may take other sizes
        whole = answer(Trial(inputs, inputs, "", case.module.forward), None)
        if steps.shape == whole.shape and np.allclose(steps, whole):
            return ""
    return "what its container makes of the two convolutions' output, an activation perhaps, is not looked at"


def transposed(case: Case) -> Iterator[Trial]:
    """Conv1DTranspose to 3D."""
    layer = case.module
    assert isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    geometry = {"strides": layer.stride, "dilation_rate": layer.dilation}
    inputs = random(1, *range(3, 3 + len(layer.stride)), layer.in_channels)
    full = {**geometry, "padding": "valid", "output_padding": layer.output_padding}
    whole = compute(case.kind, inputs, case.weights, full)
    assert not isinstance(layer.padding, str)
    cut = (slice(None), *(slice(edge, whole.shape[at + 1] - edge) for at, edge in enumerate(layer.padding)))
    yield Trial(channels_first(inputs), channels_first(whole[cut]), own_padding(layer), layer.forward)
    for padding in ("same", "valid"):
        expected = compute(case.kind, inputs, case.weights, {**geometry, "padding": padding})
        yield Trial(channels_first(inputs), channels_first(expected), padding, layer.forward)


def own_padding(layer: nn.Module) -> str:
    """What a convolution of PyTorch says of its padding."""
    more = getattr(layer, "output_padding", None) or ()
    return f"padding={layer.padding}" + (f", output_padding={more}" if any(more) else "")


def padding_remark(case: Case, how: str) -> str:
    """Where the module pads otherwise than the file says, which another of its layers may make good."""
    padding, layer = option(case.config, "padding", None), case.module
    if case.kind.startswith("Separable"):
        layer, _ = _steps(layer)
    if padding is None or how == padding or not isinstance(layer, CONVOLUTIONS):
        return ""
    inputs = random(1, *sizes(layer), layer.in_channels)
    config = {**case.config, "strides": layer.stride, "dilation_rate": layer.dilation}
    said = channels_first(compute(case.kind, inputs, case.weights, config))
    given = answer(Trial(channels_first(inputs), said, how, _run(case)), case.rows)
    if given.shape == said.shape and np.allclose(given, said):
        return ""
    return f"but {how} here and {padding!r} in Keras: right only where another layer makes up for it"


def sizes(layer: Any) -> Shape:
    """A small input for a convolution: some windows of it along each axis, even and odd sizes in turn."""
    window, strides, dilation = layer.kernel_size, layer.stride, layer.dilation
    reach = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    least = [width + 2 * stride for width, stride in zip(reach, strides, strict=True)]
    return tuple(size + (size + at) % 2 for at, size in enumerate(least))


def _padded(case: Case, layer: Convolution) -> Iterator[tuple[Array, Array, str]]:
    """An input in PyTorch's axes, the output in Keras's, and the padding between them."""
    geometry = {"strides": layer.stride, "dilation_rate": layer.dilation}
    inputs = random(1, *sizes(layer), layer.in_channels)
    given = channels_first(inputs)
    edges = layer._reversed_padding_repeated_twice
    pairs = list(zip(edges[::2], edges[1::2], strict=True))[::-1]
    own = np.pad(inputs, [(0, 0), *pairs, (0, 0)], mode=MODES[layer.padding_mode])  # type: ignore[call-overload]
    yield given, compute(case.kind, own, case.weights, {**geometry, "padding": "valid"}), own_padding(layer)
    for padding in ("same", "valid"):
        yield given, compute(case.kind, inputs, case.weights, {**geometry, "padding": padding}), padding


def misfit(case: Case) -> str:
    """How strides, dilation or groups of the module differ from those the file says; "" where they do not."""
    layer = next((each for each in case.module.modules() if isinstance(each, CONVOLUTIONS)), None)
    if layer is None:
        return ""
    for key, own in (("strides", layer.stride), ("dilation_rate", layer.dilation)):
        said = option(case.config, key, None)
        if said is not None and each(said, len(own)) != tuple(own):
            return f"the module computes with {key} {tuple(own)}, the file says {each(said, len(own))}"
    groups = case.config.get("groups")
    if groups is not None and case.kind in ("Conv1D", "Conv2D", "Conv3D") and groups != layer.groups:
        return f"the module computes with {layer.groups} groups, the file says {groups}"
    return ""
