"""Values between two layers: their shape in Keras, and where PyTorch has the channels.

A PyTorch port has the maps of convolutions and poolings channels first, and what recurrent layers,
embeddings and Dense layers give out as Keras has it, channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .sizes import Size, Sizes

FIRST, LAST = 0, -1
MOST_AXES = 32
MOST_MAKERS = 1000


@dataclass(frozen=True)
class Flat:
    """The values of a map in one axis, as Keras has them: channels fastest. In PyTorch channels are slowest.

    A size is None, or the shape empty, where the file does not say. `kept` axes stay in front of the
    channels in PyTorch, too: the steps of time. Of values that are `mixed` with others, by a layer that is
    not known here, no order can be told. `beside` are the rows that several make, one behind the other.
    """

    shape: Sizes
    kept: int = 0
    inferred: bool = False
    mixed: bool = False
    beside: tuple[Flat, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether PyTorch's order may differ from Keras's: an axis of one value is nowhere."""
        if self.beside and not self.mixed:
            return any(part.moves for part in self.beside)
        if self.mixed or not self.shape:
            return not self.shape or sum(size != 1 for size in self.shape) > 1
        return self.shape[-1] != 1 and any(size != 1 for size in self.shape[self.kept : -1])


@dataclass(frozen=True)
class Made:
    """A map that a Reshape makes of the outputs of `layers`.

    `whole` is False where other values are among them. `steps` counts the axes of time in front that a
    TimeDistributed takes away.
    """

    layers: tuple[str, ...]
    shape: Sizes
    whole: bool = True
    steps: int = 0


@dataclass(frozen=True)
class Values:
    """What a layer gives out: its shape without the batch, as Keras has it; None where that is not known.

    `channels` is where PyTorch has the last axis: LAST, as Keras; 0, in front of all others; 1, behind
    one axis of time; None, not known. `flat` is the map that the last axis was flattened from, `makers`
    are the layers whose outputs it holds, `whole` is False if other values are among them. `made` are the
    maps it comes from that PyTorch has in an order which no layer has decided yet.
    """

    shape: Sizes | None = None
    channels: int | None = None
    flat: Flat | None = None
    makers: tuple[str, ...] = ()
    whole: bool = True
    made: tuple[Made, ...] = ()
    inferred: bool = False

    def __post_init__(self) -> None:
        if len(self.shape or ()) > MOST_AXES or len(self.makers) > MOST_MAKERS:
            raise ValueError(f"values have more than {MOST_AXES} axes, or come from more than {MOST_MAKERS} layers")
        for size in self.shape or ():
            if size is not None and not isinstance(size, int):
                raise ValueError(f"a size is {size!r}")

    @property
    def orderless(self) -> bool:
        """Whether all of its values lie along one axis, so that no order of the axes matters."""
        return self.shape is not None and sum(size != 1 for size in self.shape) <= 1


def common(inputs: Sequence[Values]) -> int | None:
    """Where PyTorch has the channels of values that meet: all the same, or it is not known."""
    firm = {given.channels for given in inputs if not given.orderless and not given.made}
    loose = {given.channels for given in inputs if not given.orderless}
    orders = firm or loose or {inputs[0].channels}
    return orders.pop() if len(orders) == 1 else None


def without_time(given: Values) -> Values:
    """One step of time, as TimeDistributed gives it to its layer."""
    if not given.shape:
        return Values(None, LAST if given.channels == LAST else None, given.flat)
    inner = tuple(replace(made, steps=made.steps + 1) for made in given.made)
    one = replace(given, shape=given.shape[1:], made=inner)
    if given.channels is None or given.channels == LAST:
        return one
    channels = given.channels - 1 if given.channels else None  # channels in front of time are not those of a step
    return replace(one, channels=LAST if one.orderless else channels)


def with_time(out: Values, steps: Size) -> Values:
    """All steps of time again."""
    made = tuple(replace(each, steps=each.steps - 1) for each in out.made)
    channels = out.channels if out.channels is None or out.channels == LAST else out.channels + 1
    if out.shape is None:
        return replace(out, channels=LAST if channels == LAST else None, made=made)
    return replace(out, shape=(steps, *out.shape), channels=channels, made=made)
