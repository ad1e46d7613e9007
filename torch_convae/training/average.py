"""An exponential moving average of the weights that train, to measure and to keep instead of the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .shards import cut_as, whole


class Average:
    """The average of parameters over the steps of a segment; with a decay of 0 it is off, and does nothing.

    It starts slowly, with a decay of (1 + n) / (10 + n) after n steps, so that the weights a segment begins with
    do not weigh on a short one.
    """

    def __init__(self, decay: float, parameters: Mapping[str, nn.Parameter]) -> None:
        self.decay = decay
        self.parameters = dict(parameters) if decay else {}
        self.values = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.steps = 0

    def update(self) -> None:
        """Take in the weights after a step."""
        if self.parameters:
            self.steps += 1
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            now = [parameter.detach() for parameter in self.parameters.values()]
            torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in the network, for as long as it is measured."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.settle()
        try:
            yield
        finally:
            self._write(kept)

    def settle(self) -> None:
        """The averaged weights in the network, for good: what was measured is what the run goes on with."""
        self._write(self.values)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "values": {name: whole(value) for name, value in self.values.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave, back."""
        self.steps = state["steps"]
        for name, value in self.values.items():
            value.copy_(cut_as(state["values"][name], value))

    def _write(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)
