"""The convolutions that an image meets first: by the architecture, or else by the order of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from ..architecture import KerasLayer
from ..errors import BridgeError
from ..options import unmatched
from ..source import Shape, Source, key_of
from .axes import TRANSPOSED, kind_of, shapes_of, weight_of
from .change import described

CONVOLUTIONS = frozenset(
    f"{kind}{dimensions}D{ending}"
    for dimensions in (1, 2, 3)
    for kind, ending in (("Conv", ""), ("Conv", "Transpose"), ("ConvLSTM", ""))
)
# What treats every channel alike, without weights.
CHANNELWISE = frozenset(
    "InputLayer Dropout GaussianNoise GaussianDropout ActivityRegularization Resizing CenterCrop Rescaling RandomFlip "
    "RandomCrop RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness".split()
) | {
    f"{kind}{dimensions}D"
    for dimensions in (1, 2, 3)
    for kind in ("ZeroPadding", "Cropping", "MaxPooling", "AveragePooling", "UpSampling", "SpatialDropout")
}

BY_LAYER = "to bridge.adapt.in_channels or flip_input as layer"  # for messages

Image = frozenset[str]  # the inputs that a tensor is, as they came or resized; empty for anything computed
NONE: Image = frozenset()


@dataclass(frozen=True)
class First:
    """The layers to adapt, and those that the image passes on its way (none where that is not known)."""

    layers: tuple[str, ...]
    passed: tuple[str, ...]
    channels_axis: int  # of the images
    inferred: bool


@dataclass(frozen=True)
class _Met:
    layer: KerasLayer
    image: Image


def first_convolutions(source: Source, layer: str | None = None) -> First:
    """The convolutions fed by the image; `layer` names the one to take instead.

    Refused: an image that something else takes, too, several images, a first convolution that is
    depthwise or grouped, and weights in front of it that have a value for each channel.
    """
    if layer is not None and layer not in source.layers:
        raise BridgeError(f"{source.name}: {unmatched('layer', layer, list(source.layers))}")
    met: dict[str, _Met] = {}
    _follow(described(source), NONE, "", met)
    found = (layer,) if layer is not None else _found(source, met) if met else (_by_order(source),)
    for name in found:
        _refuse_depthwise(source, name, met.get(name))
    images = frozenset[str]().union(*(met[name].image for name in found if name in met))
    passed = tuple(path for path, each in met.items() if each.layer.kind in CHANNELWISE and each.image & images)
    configs = [met[name].layer.config for name in found if name in met]
    axis = 1 if any("channels_first" in (config.get("data_format"), _keras_1(config)) for config in configs) else -1
    return First(found, passed, axis, inferred=layer is None and not met)


def _keras_1(config: Mapping[str, object]) -> str:
    return "channels_first" if config.get("dim_ordering") == "th" else ""


def channels_of(source: Source, layer: str) -> tuple[str, int]:
    """The key of a convolution's kernel, and the axis of its input channels."""
    role = weight_of(shapes_of(source, layer)) or "kernel"
    transposed = (kind_of(source, layer) or "").endswith("Transpose")
    if source.layout == "torch":
        return key_of(layer, role), 0 if transposed else 1
    # A ConvLSTM's kernel lies as a convolution's; a transposed one has its outputs before its inputs.
    return key_of(layer, role), -1 if transposed else TRANSPOSED[0]


def _follow(found: tuple[KerasLayer, ...], given: Image, prefix: str, met: dict[str, _Met]) -> Image:
    """What a model gives out, if the image goes in; notes each layer that is given the image."""
    images: dict[str, Image] = {}
    image = given
    for layer in found:
        path = f"{prefix}{layer.name}"
        entry = given if prefix else frozenset({path})
        image = NONE.union(*(images.get(name, NONE) for name in layer.inputs)) if layer.inputs else entry
        # Which of several inputs the image is, a nested model does not say: then the whole model takes it.
        several = sum(child.kind == "InputLayer" for child in layer.children) > 1
        if image and (several or not layer.children):
            met[path] = _Met(layer, image)
        if layer.children:
            images[layer.name] = image = _follow(layer.children, NONE if several else image, f"{path}/", met)
        else:
            images[layer.name] = image = image if _is_channelwise(layer) else NONE
    return image


def _is_channelwise(layer: KerasLayer) -> bool:
    numbers = (layer.config.get("scale", 1.0), layer.config.get("offset", 0.0))  # of Rescaling: one for each channel?
    return layer.kind in CHANNELWISE and not any(isinstance(number, (list, dict)) for number in numbers)


def _found(source: Source, met: Mapping[str, _Met]) -> tuple[str, ...]:
    """The convolutions among what the image meets; everything else there must leave the channels as they are."""
    convolutions = {path: each for path, each in met.items() if each.layer.kind in CONVOLUTIONS}
    strangers = [path for path, each in met.items() if path not in convolutions and not _is_channelwise(each.layer)]
    if strangers:
        raise BridgeError(
            f"{source.name}: the image goes to {strangers[0]} ({met[strangers[0]].layer.kind}), whose channels cannot "
            f"be changed here. Name the convolution to change, if it is right to leave that one as it is, {BY_LAYER}."
        )
    if not convolutions:
        raise BridgeError(f"{source.name}: no convolution is fed by the input. Name the first one {BY_LAYER}.")
    if len({each.image for each in convolutions.values()}) > 1:
        raise BridgeError(
            f"{source.name}: {', '.join(convolutions)} are fed by different inputs. Name the one to change {BY_LAYER}."
        )
    return tuple(convolutions)


def _by_order(source: Source) -> str:
    """The first layer with a convolution's kernel."""
    ahead: list[tuple[str, Shape]] = []
    for layer, shapes in source.layers.items():
        role = weight_of(shapes)
        if role is None or len(shapes[role]) < 3:
            ahead += [(f"{layer}/{name}", shape) for name, shape in shapes.items()]
            continue
        key, axis = channels_of(source, layer)
        channels = source.stored[key].shape[axis]
        for name, shape in ahead:
            if prod(shape) == channels > 1:
                raise BridgeError(
                    f"{source.name}: {name}, in front of {layer}, has a value for each of its {channels} channels. "
                    f"Name the convolution {BY_LAYER}, if that one does not belong to the image."
                )
        return layer
    raise BridgeError(f"{source.name} holds no convolution's kernel. Name the layer that takes the image {BY_LAYER}.")


def _refuse_depthwise(source: Source, layer: str, met: _Met | None) -> None:
    shapes = shapes_of(source, layer)
    role = weight_of(shapes)
    if role is None or len(shapes[role]) < 3:
        raise BridgeError(f"{source.name}: {layer} holds no convolution's kernel. Name another layer.")
    depthwise = role == "depthwise_kernel" or "Depthwise" in (kind_of(source, layer) or "")
    if role == "kernel" and shapes[role][-1] != prod(shapes[role][-2:]) == prod(shapes.get("bias", ())):
        depthwise = True  # as many biases as inputs times outputs: only that kind has them
    if depthwise or role == "pointwise_kernel" or (met and met.layer.config.get("groups", 1) != 1):
        raise BridgeError(
            f"{source.name}: {layer} has filters of its own for each input channel or group of channels, "
            f"which other channels cannot use. Name another layer."
        )
