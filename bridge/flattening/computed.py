"""What each Keras layer gives out for what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..architecture import KerasLayer
from . import sizes
from .maps import LAST, Values, common, with_time
from .rearranged import combined, concatenated, flattened, merged_by_mode, permuted, reshaped, unknown
from .sizes import Size, Sizes

Rule = Callable[[KerasLayer, Sequence[Values]], Values]
Config = Mapping[str, Any]
_OVER_PLACES = re.compile(r"(?P<before>.*?)(?P<rank>[123])D(?P<behind>.*)")
_PLACES: Mapping[str, Callable[[Config, Sizes], Sizes]] = {
    "Conv": sizes.windowed,
    "SeparableConv": sizes.windowed,
    "DepthwiseConv": sizes.windowed,
    "LocallyConnected": sizes.windowed,
    "ConvLSTM": sizes.windowed,
    "MaxPooling": sizes.windowed,
    "AveragePooling": sizes.windowed,
    "ConvTranspose": sizes.transposed,
    "ZeroPadding": sizes.padded,
    "Cropping": sizes.cropped,
    "UpSampling": sizes.grown,
    "GlobalMaxPooling": sizes.unchanged,
    "GlobalAveragePooling": sizes.unchanged,
    "AdaptiveMaxPooling": sizes.said,
    "AdaptiveAveragePooling": sizes.said,
    "Resizing": sizes.said,
    "CenterCrop": sizes.said,
    "RandomCrop": sizes.said,
}


def over_places(layer: KerasLayer) -> tuple[str, int] | None:
    """A layer over (steps, channels), (height, width, channels), ...: its kind without "2D", and how many axes."""
    named = _OVER_PLACES.fullmatch(layer.kind)
    kind, rank = (named["before"] + named["behind"], int(named["rank"])) if named else (layer.kind, 2)
    return (kind, rank) if kind in _PLACES else None


def channels_first(config: Config) -> bool:
    """Whether a layer has its channels first in Keras, too."""
    return config.get("data_format") == "channels_first" or config.get("dim_ordering") == "th"


def given_out(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    """What a layer gives out. A class that is not known here keeps only what is certain."""
    if over_places(layer):
        return _over_places(layer, inputs)
    return RULES.get(layer.kind, unknown)(layer, inputs)


def decided(layer: KerasLayer, inputs: Sequence[Values], out: Values) -> tuple[int | None, ...]:
    """Where a layer's counterpart in PyTorch takes the channels, if that decides it; None where it cannot be told."""
    rule = RULES.get(layer.kind)
    if named := over_places(layer):
        return (LAST if channels_first(layer.config) else int(named[0] == "ConvLSTM"),)
    if rule in (concatenated, combined, merged_by_mode):
        return (common(inputs),) if any(not (given.made or given.orderless) for given in inputs) else ()
    if rule is permuted:
        dims = tuple(layer.config["dims"])
        last = LAST if dims == (*range(2, len(dims) + 1), 1) else None
        return () if dims[-1] == len(dims) else (last,)
    if rule is flattened or (rule is reshaped and len(out.shape or ()) == 1):
        return (inputs[0].channels,)
    if rule is reshaped and not out.made:
        same = inputs[0].channels == LAST == out.channels or (out.shape is not None and out.shape[-1] == 1)
        return (LAST if same else None,)
    return (LAST,) if rule is _recurrent else ()


def _over_places(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    kind, rank = over_places(layer) or ("", 0)
    given, first, config = inputs[0], channels_first(layer.config), layer.config
    time = kind == "ConvLSTM"
    shape = given.shape if given.shape is not None and len(given.shape) == rank + 1 + time else None
    shape = shape or (None,) * (rank + 1 + time)
    steps, shape = shape[:time], shape[time:]
    places, channels = (shape[1:], shape[0]) if first else (shape[:-1], shape[-1])
    channels, places = _channels(kind, config, channels), _PLACES[kind](config, places)
    if kind.startswith("Global"):
        if not config.get("keepdims"):
            return Values((channels,), LAST)
        places = (1,) * rank
    out = Values((channels, *places) if first else (*places, channels), LAST if first else 0)
    return with_time(out, steps[0]) if time and config.get("return_sequences") else out


def _channels(kind: str, config: Config, given: Size) -> Size:
    if kind == "DepthwiseConv":
        return given and given * int(config.get("depth_multiplier", 1))
    return config.get("filters") or config.get("nb_filter") or given


def _same(_: KerasLayer, inputs: Sequence[Values]) -> Values:
    return inputs[0]


def _in_groups(_: KerasLayer, inputs: Sequence[Values]) -> Values:
    """Neighbours belong together, so that their order is not free."""
    given = inputs[0]
    return replace(given, flat=given.flat and replace(given.flat, mixed=True), whole=False)


def _as_keras(_: KerasLayer, __: Sequence[Values]) -> Values:
    return Values(None, LAST)


def _dense(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    shape, units = inputs[0].shape, layer.config.get("units") or layer.config.get("output_dim")
    return Values((*shape[:-1], units) if shape else None, LAST)


def _embedding(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    shape, length = inputs[0].shape, layer.config.get("input_length")
    before = shape if shape is not None else (length if isinstance(length, int) else None,)
    return Values((*before, layer.config.get("output_dim")), LAST)


def _recurrent(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    config, factor = layer.config, 1
    if layer.kind == "Bidirectional":
        factor = {"concat": 2, None: 0}.get(config.get("merge_mode", "concat"), 1)
        config = config["layer"]["config"]
    cell = config.get("cell", {}).get("config", {})
    units = config.get("units") or config.get("output_dim") or cell.get("units")
    if not factor or not isinstance(units, int):
        return Values(None, LAST)
    steps = inputs[0].shape[:1] if inputs[0].shape else (None,)
    return Values((*steps, factor * units) if config.get("return_sequences") else (factor * units,), LAST)


def _repeated(layer: KerasLayer, inputs: Sequence[Values]) -> Values:
    given = inputs[0]
    return replace(given, shape=(layer.config.get("n"), *given.shape) if given.shape else None, channels=LAST)


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_named(_same, "InputLayer Activation Dropout ReLU LeakyReLU ELU PReLU Softmax ThresholdedReLU Masking Identity"),
    **_named(_same, "SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout AlphaDropout"),
    **_named(_same, "BatchNormalization LayerNormalization RMSNormalization UnitNormalization ActivityRegularization"),
    **_named(_same, "Normalization Rescaling RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast"),
    **_named(_same, "Relu Relu6 Sigmoid HardSigmoid Tanh Silu HardSilu Elu Selu Gelu LeakyRelu Softplus"),  # keras.ops
    **_named(_in_groups, "GroupNormalization"),
    **_named(_dense, "Dense"),
    **_named(_embedding, "Embedding"),
    **_named(_recurrent, "SimpleRNN LSTM GRU CuDNNLSTM CuDNNGRU RNN Bidirectional"),
    **_named(_as_keras, "MultiHeadAttention GroupedQueryAttention Attention AdditiveAttention EinsumDense"),
    **_named(_repeated, "RepeatVector"),
    **_named(permuted, "Permute"),
    **_named(flattened, "Flatten"),
    **_named(reshaped, "Reshape"),
    **_named(concatenated, "Concatenate"),
    **_named(combined, "Add Multiply Average Maximum Minimum Subtract"),
    **_named(merged_by_mode, "Merge"),
}
