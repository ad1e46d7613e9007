"""An exponential moving average of the weights that train, to measure and to keep instead of the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of parameters over the steps of a stage; with a decay of 0 it is off, and does nothing.

    It starts slowly, with a decay of (1 + n) / (10 + n) after n steps, so that the weights a stage begins with
    do not weigh on a short one.
    """

    def __init__(self, decay: float, parameters: Sequence[nn.Parameter]) -> None:
        self.decay = decay
        self.parameters = list(parameters) if decay else []
        self.values = [parameter.detach().clone() for parameter in self.parameters]
        self.steps = 0

    def update(self) -> None:
        """Take in the weights after a step."""
        if not self.parameters:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in self.parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in the network, for as long as it is measured."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        self.settle()
        try:
            yield
        finally:
            _write(self.parameters, kept)

    def settle(self) -> None:
        """The averaged weights in the network, for good: what was measured is what the next stage goes on with."""
        _write(self.parameters, self.values)

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self.steps, "values": self.values}

    def restore(self, state: Mapping[str, object]) -> None:
        """What `state` gave, back."""
        values = state["values"]
        assert isinstance(values, list)
        self.steps = int(str(state["steps"]))
        for own, saved in zip(self.values, values, strict=True):
            own.copy_(saved)


def _write(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    if parameters:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), list(values))
