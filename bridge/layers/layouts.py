"""Layer kind -> Keras role, torch parameter, transform; one table serves both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import rnn
from ..source import Shape
from .transform import Transform


@dataclass(frozen=True)
class Layout:
    """One weight of a layer kind: its name on both sides, and how Keras's array becomes PyTorch's.

    Of several `transforms` the first is meant that fits the shapes of both sides, or else their ranks.
    `absent` is the value that a Keras layer without this weight computes with (use_bias, scale and center can
    be off); None where a layer cannot be without it. A module always has the parameter where the layer has
    the weight `beside`.
    """

    role: str
    parameter: str
    transforms: tuple[Transform, ...]
    absent: float | None = None
    beside: str | None = None

    def transform(self, shape: Shape, to: Shape | None = None) -> Transform | None:
        """The transform for an array of that shape into a parameter of shape `to`; None where there is none."""
        fitting = [each for each in self.transforms if each.rank == len(shape)]
        if to is not None:
            exact = [each for each in fitting if _result_rank(each) == len(to)]
            exact = [each for each in exact if each.shape(shape) == to] or exact
        else:  # what is shared over a map has 1s in its place
            exact = [each for each in fitting if _result_rank(each) == 1] if shape and prod(shape) == shape[-1] else []
        return next(iter(exact or fitting), None)


def _result_rank(transform: Transform) -> int:
    return len(transform.axes if transform.joined is None else transform.joined)


def _kernel(window: int) -> Transform:
    """(window..., in, out) -> (out, in, window...); a transposed convolution has in and out swapped on both sides."""
    return Transform((window + 1, window, *range(window)))


def _depthwise(window: int) -> Transform:
    """(window..., channels, multiplier) -> (channels * multiplier, 1, window...)."""
    apart = tuple((axis,) for axis in range(2, window + 2))
    return Transform((window, window + 1, *range(window)), joined=((0, 1), (), *apart))


def _pointwise(window: int) -> tuple[tuple[int, ...], ...]:
    """A Dense kernel's axes as those of a convolution over one position."""
    return ((0,), (1,), *((),) * window)


VECTOR = Transform((0,))
_MAP = Transform((2, 0, 1))  # one value for each place of a (height, width, channels) map
_MATRIX = Transform((1, 0))
AS_IS = Transform((0, 1))
_BIAS = Layout("bias", "bias", (VECTOR,), absent=0.0)
_AFFINE = (
    Layout("gamma", "weight", (VECTOR, _MAP), absent=1.0, beside="beta"),
    Layout("beta", "bias", (VECTOR, _MAP), absent=0.0, beside="gamma"),
)
_OVER_AXES = tuple(replace(each, transforms=(*each.transforms, _MATRIX, AS_IS)) for each in _AFFINE)
_RESET, _UPDATE, _NEW = 1, 0, 2  # where Keras keeps the gates of a GRU; PyTorch has them in this order
_GATES = (_RESET, _UPDATE, _NEW)


def _convolution(window: int) -> tuple[Layout, ...]:
    return (Layout("kernel", "weight", (_kernel(window),)), _BIAS)


def _separable(window: int) -> tuple[Layout, ...]:
    return (
        Layout("depthwise_kernel", "depthwise.weight", (_depthwise(window),)),
        Layout("pointwise_kernel", "pointwise.weight", (_kernel(window),)),
        Layout("bias", "pointwise.bias", (VECTOR,), absent=0.0),
        Layout("", "depthwise.bias", (), absent=0.0),  # Keras has one bias, behind both steps
    )


def _recurrent(gates: tuple[int, ...] | None, bias: Transform, hidden: Transform | None = None) -> tuple[Layout, ...]:
    """Keras adds one bias; PyTorch adds two, so that the second is zero where Keras has none."""
    matrix, one = Transform((1, 0), gates=gates), Transform((0,), gates=gates)
    return (
        Layout("kernel", "weight_ih", (matrix,)),
        Layout("recurrent_kernel", "weight_hh", (matrix,)),
        Layout("bias", "bias_ih", (bias, one), absent=0.0),
        Layout("bias", "bias_hh", (hidden,) if hidden else (), absent=0.0, beside="bias"),
    )


KINDS: Mapping[str, tuple[Layout, ...]] = {
    "Conv2D": _convolution(2),
    "Conv1D": _convolution(1),
    "Conv3D": _convolution(3),
    "DepthwiseConv1D": (Layout("kernel", "weight", (_depthwise(1),)), _BIAS),
    "DepthwiseConv2D": (Layout("kernel", "weight", (_depthwise(2),)), _BIAS),
    "Conv2DTranspose": _convolution(2),
    "Conv1DTranspose": _convolution(1),
    "Conv3DTranspose": _convolution(3),
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "Dense": (
        Layout("kernel", "weight", (_MATRIX, *(Transform((1, 0), joined=_pointwise(n)) for n in (1, 2, 3)))),
        _BIAS,
    ),
    "BatchNormalization": (
        *_AFFINE,
        Layout("moving_mean", "running_mean", (VECTOR,)),
        Layout("moving_variance", "running_var", (VECTOR,)),
    ),
    "LayerNormalization": _OVER_AXES,
    "GroupNormalization": _AFFINE,
    "PReLU": (
        Layout(
            "alpha",
            "weight",
            (
                Transform((2, 0, 1)),
                VECTOR,
                Transform((1, 0)),
                Transform((3, 0, 1, 2)),
                Transform((0, 1), joined=((0, 1),)),
                Transform((0, 1, 2), joined=((0, 1, 2),)),
                Transform((0, 1, 2, 3), joined=((0, 1, 2, 3),)),
            ),
        ),
    ),
    "Embedding": (Layout("embeddings", "weight", (AS_IS,)),),
    "SimpleRNN": _recurrent(None, VECTOR),
    "LSTM": _recurrent(None, VECTOR),
    "GRU": _recurrent(_GATES, Transform((0,), row=0, gates=_GATES), Transform((0,), row=1, gates=_GATES)),
}

RECURRENT = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}  # gates, each as wide as the state

MODULES: tuple[tuple[tuple[type[nn.Module], ...], tuple[str, ...]], ...] = (
    ((nn.Conv1d,), ("Conv1D", "DepthwiseConv1D", "Dense")),
    ((nn.Conv2d,), ("Conv2D", "DepthwiseConv2D", "Dense")),
    ((nn.Conv3d,), ("Conv3D", "Dense")),
    ((nn.ConvTranspose1d,), ("Conv1DTranspose",)),
    ((nn.ConvTranspose2d,), ("Conv2DTranspose",)),
    ((nn.ConvTranspose3d,), ("Conv3DTranspose",)),
    ((nn.Linear,), ("Dense",)),
    ((_BatchNorm,), ("BatchNormalization",)),
    ((nn.LayerNorm,), ("LayerNormalization",)),
    ((nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), ("GroupNormalization",)),
    ((nn.PReLU, rnn.PReLU), ("PReLU",)),
    ((nn.Embedding,), ("Embedding",)),
    ((nn.RNN, rnn.SimpleRNN), ("SimpleRNN",)),
    ((nn.LSTM, rnn.LSTM), ("LSTM",)),
    ((nn.GRU, rnn.GRU), ("GRU",)),
)

# PyTorch counts batches beside the statistics; Keras does not, and no output depends on it.
COUNTERS = frozenset({"num_batches_tracked"})


def kinds_of_module(module: nn.Module) -> tuple[str, ...]:
    """The Keras classes that a module can compute like, the usual one first; none where it is not known."""
    return next((kinds for classes, kinds in MODULES if isinstance(module, classes)), ())


def kind_of_weights(shapes: Mapping[str, Shape], named: str | None, among: tuple[str, ...] = ()) -> str | None:
    """The layer kind whose table fits these weights; `named` is the class, where the file says it.

    With `among` only those are asked. Where several fit (a depthwise convolution has a kernel of the
    same rank) it is the first of the table of which the bias is as long as there are outputs, else the first.
    """
    if named is not None and named in KINDS:
        return named if not among or named in among else None
    if "recurrent_kernel" in shapes and "kernel" in shapes:
        ratio = shapes["kernel"][-1] / max(shapes["recurrent_kernel"][0], 1)
        fitting = tuple(kind for kind, gates in RECURRENT.items() if gates == ratio)
    else:
        fitting = tuple(kind for kind in KINDS if kind not in RECURRENT)
    found = [kind for kind in among or KINDS if kind in fitting and _fits(kind, shapes)]
    return next((kind for kind in found if _agrees(kind, shapes)), next(iter(found), None))


def _fits(kind: str, shapes: Mapping[str, Shape]) -> bool:
    layouts = KINDS[kind]
    needed = {layout.role for layout in layouts if layout.absent is None}
    known = all(any(each.role == role and each.transform(shape) for each in layouts) for role, shape in shapes.items())
    return bool(shapes) and known and needed <= shapes.keys()


def _agrees(kind: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a convolution of that kind has as many outputs as there are biases."""
    kernel, transposed = next(each for each in KINDS[kind] if each.transforms), kind.endswith("Transpose")
    transform = kernel.transform(shapes[kernel.role]) if len(shapes.get("bias", ())) == 1 else None
    return transform is None or transform.shape(shapes[kernel.role])[int(transposed)] == shapes["bias"][0]


def kind_of_torch_weight(shape: Shape) -> str:
    """The class of a PyTorch layer as far as its weight tells; enough for the naming schemes."""
    return {4: "Conv2D", 2: "Dense", 1: "BatchNormalization"}.get(len(shape), "")
