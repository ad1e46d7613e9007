"""Steps of a chain that have no weights: what stands between a Keras model's layers, in PyTorch."""

from collections.abc import Callable
from typing import Any

from torch import nn

Steps = list[tuple[str, nn.Module]]
FLATTEN, RELU = ("", nn.Flatten()), ("", nn.ReLU())


class To(nn.Module):
    """Any function as a module without weights."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def to(function: Callable[[Any], Any]) -> tuple[str, nn.Module]:
    return "", To(function)


OUTPUTS = to(lambda pair: pair[0])  # of a recurrent layer, without its state
LAST_STEP = to(lambda pair: pair[0][:, -1])
CHANNELS_LAST, CHANNELS_FIRST = to(lambda x: x.movedim(1, -1)), to(lambda x: x.movedim(-1, 1))
FOLD = to(lambda x: x.flatten(0, 1))


def unfold(steps: int) -> tuple[str, nn.Module]:
    return to(lambda x: x.unflatten(0, (-1, steps)))
