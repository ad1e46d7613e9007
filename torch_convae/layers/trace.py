"""What a forward goes through, without its numbers: each step's shape, and which steps it was made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..errors import ConvaeError
from .steps import Seen, Step, on_nothing

BATCH = 2  # more than one, so that an axis of time that is folded into the batch shows
# What has the channels in front, and what may put them there or behind.
ALONG_FIRST = ("conv", "batch", "group", "instance", "max", "avg", "adaptive", "upsample", "interpolate", "prelu")
TURNING = ("permute", "transpose", "swapaxes", "movedim", "moveaxis")
# Keras's `same` crops within the layer what PyTorch's module gives too much.
CROPPED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


@dataclass(frozen=True)
class Link:
    """A listed step. `shape` is that of one input's row, with the time in front where it is folded into the batch.

    `direct` is the step whose output it takes as it is, `before` the one that it comes from, perhaps reshaped.
    A part of the network that hands on what one of its layers gave is that step's `same`. `channels_last` says
    that the last axis of a map holds its channels.
    """

    path: str
    call: int
    what: str
    kind: str
    shape: tuple[int, ...]
    leaf: bool
    part: bool
    direct: int | None = None
    before: int | None = None
    same: int | None = None
    channels_last: bool = False


def trace(model: nn.Module, shape: tuple[int, ...]) -> list[Link]:
    """The listed steps for inputs of this shape, (C, H, W) for images. Nothing is computed.

    A shape that the model cannot take is refused.
    """
    tracer = _Tracer()
    _tried(model, shape, tracer.see)
    return tracer.links


def output_shape(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the model gives for one input of this shape; several outputs are refused, as is a shape it cannot take."""
    output = _tried(model, shape, lambda _: None)
    if not isinstance(output, Tensor):
        raise ConvaeError(f"{type(model).__name__} gives {type(output).__name__}, and no single answer.")
    return tuple(output.shape[1:])


def _tried(model: nn.Module, shape: tuple[int, ...], seen: Seen) -> Any:
    try:
        return on_nothing(model, (BATCH, *shape), seen)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        size, reason = " x ".join(map(str, shape)), str(error).split("\n")[0]
        raise ConvaeError(
            f"{type(model).__name__} takes no input of {size} ({reason}). Give another --size."
        ) from error


@dataclass
class _Tracer:
    links: list[Link] = field(default_factory=list)
    direct: dict[int, int] = field(default_factory=dict)  # id of a tensor -> the step that gave it
    origin: dict[int, int] = field(default_factory=dict)  # the same, and for what only passed on
    last: dict[int, bool] = field(default_factory=dict)  # id of a tensor -> whether its last axis holds the channels
    kept: list[Tensor] = field(default_factory=list)  # so that no other tensor takes an id

    def see(self, step: Step) -> None:
        output = id(step.output)
        last = self.last[output] = self._is_last(step)
        before = next((self.origin[id(one)] for one in reversed(step.inputs) if id(one) in self.origin), None)
        self.kept.append(step.output)
        if not step.listed:
            if before is not None:
                self.origin.setdefault(output, before)
                if step.what == "__getitem__" and self.links[before].what in CROPPED:
                    self.direct[output] = before
            return
        part = not step.leaf and step.what == step.kind
        same = self.direct.get(output) if part else None
        direct = self.direct.get(id(step.inputs[-1])) if step.inputs and not part else None
        rows, *shape = step.output.shape
        whole = (rows // BATCH, *shape) if rows > BATCH and rows % BATCH == 0 else tuple(shape)
        is_last = last and len(whole) > 2
        link = Link(step.path, step.call, step.what, step.kind, whole, step.leaf, part, direct, before, same, is_last)
        self.links.append(link)
        if same is None:
            self.direct[output] = self.origin[output] = len(self.links) - 1

    def _is_last(self, step: Step) -> bool:
        """Whether the last axis of a step's output holds the channels, as far as the steps before it tell."""
        if id(step.output) in self.last:  # a part, which gives what a step within it gave
            return self.last[id(step.output)]
        if step.along_last or step.what.lower().startswith(ALONG_FIRST):
            return step.along_last
        given = [one for one in step.inputs if one.ndim > 2]
        last = any(self.last.get(id(one), False) for one in given)
        return last != (step.what.lower() in TURNING and _is_turned(given[0], step.output, last)) if given else False


def _is_turned(given: Tensor, output: Tensor, last: bool) -> bool:
    """Whether the axis of the channels went from one end to the other."""
    if given.ndim != output.ndim:
        return False
    return given.shape[-1 if last else 1] == output.shape[1 if last else -1]
