"""Batch normalisations folded into the layers in front of them: the same outputs from fewer layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..layers.epsilon import default_epsilon
from ..layers.layouts import kind_of_torch_weight
from ..naming import names
from ..options import shortened
from ..source import Array, Source, Stored, key_of, split
from .axes import Outputs, outputs
from .change import Entry, computed, configured, rounded, with_config
from .following import Pairs, followed, widths

TORCH_EPSILON = 1e-5
DEVIATIONS_BEFORE = (1, 0, 6)  # until then Keras divided by the standard deviation plus epsilon

# What a batch normalisation's weights are called: scale, shift, mean, variance.
ROLES = {
    "keras": ("gamma", "beta", "moving_mean", "moving_variance"),
    "torch": ("weight", "bias", "running_mean", "running_var"),
}


def fold_batch_norm(source: Source, epsilon: float | None = None, pairs: Mapping[str, str] | None = None) -> Source:
    """The weights without the batch normalisations that directly follow a convolution or dense layer.

    Kernel and bias become w * gamma / sqrt(variance + epsilon) and (b - mean) * gamma / sqrt(variance
    + epsilon) + beta, computed in float64; a layer without a bias gets one. An architecture tells
    what follows what and where an activation lies in between (those are left, and named in a note).
    Without one names and order tell it, unless the moving means look like those behind a ReLU, and a
    note says so; `pairs` tells it instead: {"bn1": "conv1"}. `epsilon` is by default what the file
    says, else the default of Keras or PyTorch.

    Refused: nothing to fold, two possible layers in front of one normalisation, a negative variance.
    """
    if epsilon is not None and not 0 <= epsilon < 1:
        raise BridgeError(f"epsilon {epsilon:g} is not between 0 and 1. Keras's default is 0.001, PyTorch's 0.00001.")
    found = followed(source, pairs or {})
    if not found.follows:
        reasons = shortened([f"{norm}: {reason}" for norm, reason in found.left.items()], 2)
        pair = f", or say it: bridge.adapt.fold_batch_norm(source, pairs={{{next(iter(found.left), None)!r}: ...}})"
        raise BridgeError(
            f"{source.name}: no batch normalisation can be folded ({reasons or 'there is none'}). "
            f"Load the weights as they are{pair if reasons else ''}."
        )
    said = found.epsilons if epsilon is None else dict.fromkeys(found.follows, epsilon)
    assumed = {norm: _default_epsilon(source, norm) for norm in found.follows if norm not in said}
    epsilons, width = {**assumed, **said}, widths(source)
    norms = {layer: _Norm(source, norm, width[norm], epsilons[norm]) for norm, layer in found.follows.items()}
    return _renamed(
        replace(
            source,
            stored=_stored(source, norms),
            kinds={layer: "Activation" if layer in found.follows else kind for layer, kind in source.kinds.items()},
            architecture=_configured(source, found.follows),
            notes=(*source.notes, *_notes(source, found, assumed)),
        ),
        _new_names(source, found.follows),
    )


@dataclass(frozen=True)
class _Norm:
    """One batch normalisation: a factor and a shift for each channel, in float64, fetched when asked for."""

    source: Source
    name: str
    width: int
    epsilon: float

    def factor(self) -> Array:
        """What each channel is multiplied by."""
        variance = self._weight(3, 1.0)
        version = self.source.version or ()
        apart = len(version) > 1 and version < DEVIATIONS_BEFORE
        with np.errstate(invalid="ignore"):  # refused in the next line
            deviation = np.sqrt(variance) + self.epsilon if apart else np.sqrt(variance + self.epsilon)
        if not (deviation > 0).all():
            raise BridgeError(f"{self.source.name}: {self.name} has a variance that is not positive. Get it again.")
        return np.asarray(self._weight(0, 1.0) / deviation)

    def shifted(self, bias: Array) -> Array:
        """The bias of a layer after the normalisation."""
        return np.asarray((bias - self._weight(2, 0.0)) * self.factor() + self._weight(1, 0.0))

    def _weight(self, number: int, absent: float) -> Array:
        key = key_of(self.name, ROLES[self.source.layout][number])
        given = self.source[key] if key in self.source else np.full(self.width, absent)
        return given.astype(np.float64)

    def check(self) -> None:
        """Refuse weights of other lengths, before anything is fetched."""
        for key in (key_of(self.name, role) for role in ROLES[self.source.layout]):
            if key in self.source and self.source.stored[key].shape != (self.width,):
                shape = self.source.stored[key].shape
                raise BridgeError(f"{self.source.name}: {key} is {shape}, not ({self.width},). Get the file again.")


def _stored(source: Source, norms: Mapping[str, _Norm]) -> dict[str, Stored]:
    """The tensors in their order: without the normalisations, and a new bias behind the kernel it belongs to."""
    gone = {norm.name for norm in norms.values()}
    stored: dict[str, Stored] = {}
    for key, tensor in source.stored.items():
        layer, _ = split(key)
        if layer in norms:
            norms[layer].check()
            stored |= _folded(source, key, norms[layer])
        elif layer not in gone:
            stored[key] = tensor
    return stored


def _folded(source: Source, key: str, norm: _Norm) -> dict[str, Stored]:
    """What one weight of a layer becomes, with the bias where the layer has none."""
    layer, role = split(key)
    where = _outputs(source, layer, norm.width)
    how, shape = f"{norm.name} folded in", source.stored[key].shape
    if role == "bias":
        return {key: computed(source, key, how, shape, norm.shifted)}
    if role != where.weight:
        return {key: source.stored[key]}
    kernel = computed(source, key, how, shape, lambda array: array * where.along(norm.factor(), shape))
    bias = key_of(layer, "bias")
    if bias in source:
        return {key: kernel}
    # NumPy has no bfloat16: the readers give float32 for it.
    dtype = np.dtype(kernel.dtype if kernel.dtype in ("float16", "float32", "float64") else "float32")
    zeros = np.zeros(norm.width)
    new = Stored((norm.width,), kernel.dtype, lambda: rounded(norm.shifted(zeros), dtype, bias), how=f"new: {how}")
    return {key: kernel, bias: new}


def _outputs(source: Source, layer: str, width: int) -> Outputs:
    found = outputs(source, layer, width)
    assert found is not None, f"{layer} was paired with a normalisation of another width"
    return found


def _default_epsilon(source: Source, norm: str) -> float:
    return TORCH_EPSILON if source.layout == "torch" and not source.keras_version else default_epsilon(source, norm)


def _configured(source: Source, follows: Mapping[str, str]) -> Entry | None:
    """The architecture with a bias for each folded layer and, in a normalisation's place, what changes nothing."""

    def nothing(entry: Entry) -> Entry:
        kept = {key: value for key, value in entry.items() if key != "build_config"}
        if "inbound_nodes" in kept:
            kept["inbound_nodes"] = _without_arguments(kept["inbound_nodes"])
        name = entry["config"].get("name", entry.get("name"))
        return {**kept, "class_name": "Activation", "config": {"name": name, "activation": "linear"}}

    def biased(entry: Entry) -> Entry:
        return with_config(entry, use_bias=True, bias=True)  # the second is Keras 1's

    return configured(
        source.architecture, dict.fromkeys(follows.values(), biased) | dict.fromkeys(follows.keys(), nothing)
    )


def _without_arguments(node: Any) -> Any:
    """What feeds a layer, without the arguments that a normalisation takes beside it (training, mask)."""
    if isinstance(node, dict):  # of Keras 3
        return {**node, "kwargs": {}} if "kwargs" in node else node
    if isinstance(node, list):  # of Keras 2: ["layer", 0, 0, {...}]
        return [
            {} if isinstance(each, dict) and index == 3 else _without_arguments(each) for index, each in enumerate(node)
        ]
    return node


def _notes(source: Source, found: Pairs, assumed: Mapping[str, float]) -> list[str]:
    """What was done, what was taken for granted, and what was left."""
    pairs = shortened([f"{norm} into {layer}" for norm, layer in found.follows.items()])
    notes = [f"Folded {_counted(found.follows)} into the layer in front: {pairs}."]
    if found.inferred:
        notes.append(
            "Which layer a batch normalisation follows was told by names and order alone. Where an activation other "
            "than ReLU stands in between, folding is wrong; square kernels were taken for those of plain convolutions."
        )
    if assumed:
        taken = " or ".join(f"{each:g}" for each in dict.fromkeys(assumed.values()))
        notes.append(f"The file does not say the batch normalisations' epsilon; {taken} was taken, the default.")
    without = [layer for layer in found.follows.values() if key_of(layer, "bias") not in source]
    if without:
        notes.append(f"{shortened(without)} had no bias and now {'have' if len(without) > 1 else 'has'} one.")
    if found.left:
        left = shortened([f"{norm} ({reason})" for norm, reason in found.left.items()])
        notes.append(f"Left {_counted(found.left)} in place: {left}.")
    return notes


def _counted(norms: Mapping[str, str]) -> str:
    return f"{len(norms)} batch normalisation{'s' if len(norms) != 1 else ''}"


def _new_names(source: Source, gone: Mapping[str, str]) -> dict[str, str]:
    """The Keras names of layers whose own names mean something else without the normalisations.

    torchvision's VGG counts them in: without, nothing tells any more which convolution is which.
    """
    if source.layout == "keras":
        return {}
    kinds = {layer: kind_of_torch_weight(shapes.get("weight", ())) for layer, shapes in source.layers.items()}
    kinds |= dict.fromkeys(widths(source), "BatchNormalization")
    rest = {layer: kind for layer, kind in kinds.items() if layer not in gone}
    before, after = (names.detect(layers).to_keras(layers) for layers in (kinds, rest))
    kept = {layer: before.get(layer, layer) for layer in rest}
    return {} if kept == {layer: after.get(layer, layer) for layer in rest} else kept


def _renamed(source: Source, layers: Mapping[str, str]) -> Source:
    if not layers:
        return source
    stored = {key_of(layers.get(split(key)[0], split(key)[0]), split(key)[1]): t for key, t in source.stored.items()}
    note = "The layers have their Keras names now: their own count the batch normalisations."
    return replace(source, stored=stored, notes=(*source.notes, note))
