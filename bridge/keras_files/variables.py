"""What the numbered arrays of a Keras 3 layer are: the order in which each class makes its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..source import Shape
from .spelling import roles_by_shape

SPECTRAL = "SpectralNormalization"
# A layer without its last roles (use_bias=False) has so many arrays fewer.
_ORDERS = {
    "kernel bias": "Dense EinsumDense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose "
    "DepthwiseConv1D DepthwiseConv2D",
    "depthwise_kernel pointwise_kernel bias": "SeparableConv1D SeparableConv2D",
    "kernel recurrent_kernel bias": "SimpleRNN LSTM GRU ConvLSTM1D ConvLSTM2D ConvLSTM3D "
    "SimpleRNNCell LSTMCell GRUCell ConvLSTMCell",
    "embeddings": "Embedding",
    "alpha": "PReLU",
    "mean variance count": "Normalization",
    "scale": "RMSNormalization AdditiveAttention",
    "kernel vector_u": SPECTRAL,
    "scale concat_score_weight": "Attention",
}
ROLES = {kind: tuple(roles.split()) for roles, kinds in _ORDERS.items() for kind in kinds.split()}

# `scale` and `center` leave out the first or the second; what follows is always there.
SCALED_AND_CENTERED: Mapping[str, tuple[str, ...]] = {
    "BatchNormalization": ("moving_mean", "moving_variance"),
    "LayerNormalization": (),
    "GroupNormalization": (),
}
# Which of the two is left where the file does not say: the form that published networks have.
USUAL = {"BatchNormalization": "beta", "LayerNormalization": "gamma", "GroupNormalization": "gamma"}

GATES = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}

_OWNERS = (
    "Functional Sequential TimeDistributed Bidirectional RNN StackedRNNCells MultiHeadAttention GroupQueryAttention"
)


PUBLIC_NAMES = {"GroupQueryAttention": "GroupedQueryAttention"}  # where the class's own name is another


QUANTISED = frozenset({"int8", "uint8"})


def quantised(where: str, dtype: str) -> str:
    """Why a layer of that type of numbers is not read."""
    return f"{where} is quantised: it holds {dtype} steps, not the weights. Save the model before it is quantised."


def snake(name: str) -> str:
    """What Keras calls a layer of this class: "Conv2DTranspose" is "conv2d_transpose"."""
    name = PUBLIC_NAMES.get(name, name)
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


KINDS = {snake(kind): kind for kind in (*ROLES, *SCALED_AND_CENTERED, *_OWNERS.split())}


def ranked(name: str) -> tuple[str, int]:
    """A name that Keras counted, apart: "conv2d_3" is the class "conv2d" and 3, the first of a class has no number."""
    found = re.fullmatch(r"(.+?)_(\d{1,9})", name)
    return (found[1], int(found[2])) if found else (name, 0)


def kind_of(name: str) -> str | None:
    """The class of a layer by the name that Keras gave it; None for a class or name of the user's own."""
    return KINDS.get(ranked(name)[0])


def roles(kind: str | None, shapes: Sequence[Shape], config: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """The role of every array of a layer, in order; None where they are not those of its class and configuration.

    A class that is not known goes by its shapes, and is numbered where these do not tell.
    """
    if kind == "RNN":  # of a cell of any class
        kind, config = recurrent_kind(shapes), _of_cell(config)
    if kind is not None and kind in SCALED_AND_CENTERED:
        return _scaled_and_centered(kind, len(shapes), config)
    if kind in ROLES:
        return _biased(ROLES[kind], len(shapes), config)
    return _by_shape(shapes)


def doubtful(kind: str | None, shapes: Sequence[Shape], config: Mapping[str, Any] | None) -> bool:
    """Whether one of gamma and beta is there and nothing tells which."""
    rest = SCALED_AND_CENTERED.get(kind or "")
    return rest is not None and config is None and len(shapes) == len(rest) + 1


def is_own(entry: Mapping[str, Any]) -> bool:
    """Whether a layer of a configuration is of a class of the user's own, whatever it is called."""
    module = str(entry.get("module") or "keras")
    return ">" in str(entry.get("registered_name")) or not module.startswith(("keras", "tf_keras", "tensorflow"))


def _of_cell(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    cell = (config or {}).get("cell")
    found = cell.get("config") if isinstance(cell, dict) and not is_own(cell) else None
    return found if isinstance(found, dict) else None


def _biased(own: tuple[str, ...], count: int, config: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """A layer without arrays was saved elsewhere, as one that is shared; others have the bias that their config has."""
    biased = (config or {}).get("use_bias")
    if count and own[-1] == "bias" and isinstance(biased, bool) and count != len(own) - (not biased):
        return None
    return own[:count] if count <= len(own) else None


def _scaled_and_centered(kind: str, count: int, config: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    rest = SCALED_AND_CENTERED[kind]
    own: tuple[str, ...]
    if config is not None:
        own = ("gamma",) if config.get("scale", True) or config.get("rms_scaling") else ()
        own += ("beta",) if config.get("center", True) and not config.get("rms_scaling") else ()
    else:
        own = {0: (), 1: (USUAL[kind],), 2: ("gamma", "beta")}.get(count - len(rest), ())
    return own + rest if len(own + rest) == count else None


def _by_shape(shapes: Sequence[Shape]) -> tuple[str, ...]:
    if len(shapes) == 2 and len(shapes[1]) >= len(shapes[0]):  # a bias has fewer axes than its kernel
        return ("param_0", "param_1")
    return tuple(roles_by_shape(shapes))


def recurrent_kind(shapes: Sequence[Shape]) -> str | None:
    """The class of a recurrent layer by its cell's arrays: the gates, each as wide as the state, tell."""
    if len(shapes) not in (2, 3) or len(shapes[0]) != 2 or len(shapes[1]) != 2 or not shapes[1][0]:
        return None
    units, width = shapes[1]
    biased = len(shapes) < 3 or shapes[2] in ((width,), (2, width))
    return GATES.get(width // units) if biased and shapes[0][1] == width and width % units == 0 else None
