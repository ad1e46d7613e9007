"""Layer kind -> Keras role, torch parameter, axes; one table serves both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .reorder import write_permuted
from .source import Shape


@dataclass(frozen=True)
class Layout:
    """One weight of a layer kind: its name on both sides, and the Keras axes in PyTorch's order.

    `absent` is the value that a Keras layer without this weight computes with (use_bias, scale and
    center can be off); None where a layer cannot be without it.
    """

    role: str
    parameter: str
    axes: tuple[int, ...]
    absent: float | None = None


_BIAS = Layout("bias", "bias", (0,), absent=0.0)
_CONV_2D = (Layout("kernel", "weight", (3, 2, 0, 1)), _BIAS)

KINDS: Mapping[str, tuple[Layout, ...]] = {
    "Conv2D": _CONV_2D,
    "Conv2DTranspose": _CONV_2D,  # (height, width, out, in): its last two axes are the other way round on both sides
    "Dense": (Layout("kernel", "weight", (1, 0)), _BIAS),
    "BatchNormalization": (
        Layout("gamma", "weight", (0,), absent=1.0),
        Layout("beta", "bias", (0,), absent=0.0),
        Layout("moving_mean", "running_mean", (0,)),
        Layout("moving_variance", "running_var", (0,)),
    ),
}

MODULES: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv2d, "Conv2D"),
    (nn.ConvTranspose2d, "Conv2DTranspose"),
    (nn.Linear, "Dense"),
    (_BatchNorm, "BatchNormalization"),
)

# PyTorch counts batches beside the statistics; Keras does not, and no output depends on it.
COUNTERS = frozenset({"num_batches_tracked"})


def kind_of_module(module: nn.Module) -> str | None:
    """The Keras class that a module computes like; None where it is not known."""
    return next((kind for base, kind in MODULES if isinstance(module, base)), None)


def kind_of_weights(shapes: Mapping[str, Shape], named: str | None) -> str | None:
    """The layer kind whose table fits these weights; `named` is the class, where the file says it."""
    if named is not None:
        return named if named in KINDS else None
    for kind, layouts in KINDS.items():
        roles = {layout.role: len(layout.axes) for layout in layouts}
        needed = {layout.role for layout in layouts if layout.absent is None}
        fits = all(roles.get(role) == len(shape) for role, shape in shapes.items())
        if fits and needed <= shapes.keys():
            return kind
    return None


def kind_of_torch_weight(shape: Shape) -> str:
    """The class of a PyTorch layer as far as its weight tells; enough for the naming schemes."""
    return {4: "Conv2D", 2: "Dense", 1: "BatchNormalization"}.get(len(shape), "")


@dataclass(frozen=True)
class Transform:
    """What happens to an array on its way: axes reordered, after a flattened map is unfolded where there is one."""

    axes: tuple[int, ...]
    unflatten: Shape | None = None
    inferred: bool = False

    def with_axes(self, axes: tuple[int, ...]) -> Transform:
        """The same unfolding, with the axes of a weight."""
        return Transform(axes, self.unflatten, self.inferred)

    @property
    def _steps(self) -> tuple[int, ...]:
        # The flattened axis 0 is (height, width, channels); PyTorch wants (channels, height, width).
        return tuple(order for axis in self.axes for order in ((2, 0, 1) if axis == 0 else (axis + 2,)))

    def shape(self, keras: Shape) -> Shape:
        """The shape of the result."""
        return tuple(keras[axis] for axis in self.axes)

    def into(self, target: Tensor, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
        """Write the array into `target`, which has the result's shape, without a copy in between."""
        given = torch.from_numpy(array)
        if self.unflatten is None:
            write_permuted(target, given, self.axes)
            return
        unfolded = given.reshape(*self.unflatten, *given.shape[1:])
        write_permuted(target.view([unfolded.shape[axis] for axis in self._steps]), unfolded, self._steps)

    def apply(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        """The array in PyTorch's axes, contiguous."""
        given = torch.from_numpy(array)
        result = torch.empty(self.shape(tuple(given.shape)), dtype=given.dtype)
        self.into(result, array)
        return result

    def __str__(self) -> str:
        steps = []
        if self.unflatten:
            steps.append(f"flattened {self.unflatten} height, width, channels -> channels, height, width")
        if self.axes != tuple(range(len(self.axes))):
            steps.append(f"axes {self.axes}")
        return (", ".join(steps) or "as is") + (" (inferred: a square map)" if self.inferred else "")


def identity(shape: Shape) -> Transform:
    """Nothing changes."""
    return Transform(tuple(range(len(shape))))
