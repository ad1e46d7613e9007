"""What a module's own layers compute counts, not what their names promise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bridge.verify import verify

Loaded = tuple[nn.Module, Path]


def test_a_module_of_less_precision_is_proved_with_the_numbers_it_can_hold(small: Loaded) -> None:
    module, path = small
    assert verify(module.to(torch.bfloat16), path).ok
    assert verify(module.double(), path).first is not None  # bfloat16 numbers in a double module: rounding is loss


@pytest.mark.parametrize(
    ("option", "strided"),
    [({"stride": 2}, "strides (2, 2), the file says (1, 1)"), ({"dilation": 2}, "dilation_rate (2, 2)")],
    ids=["strides", "dilation"],
)
def test_another_geometry_than_the_files_is_found(keras: Any, network: Any, option: Any, strided: str) -> None:
    report = verify(*network((9, 8, 2), ("conv", keras.layers.Conv2D(3, 3), nn.Conv2d(2, 3, 3, **option))))
    assert report.first is not None
    assert strided in report.first.reason


def test_another_padding_is_told_as_another_layer_may_pad(keras: Any, network: Any) -> None:
    layer = keras.layers.Conv2D(3, 3, strides=2, padding="same")
    report = verify(*network((9, 8, 2), ("conv", layer, nn.Conv2d(2, 3, 3, stride=2, padding=1))))
    assert report.ok
    assert report.layers[0].reason.startswith("but padding=(1, 1) here and 'same' in Keras: right only where another")


class SamePadding(nn.Conv2d):
    """Pads at run time as Keras does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[2:], self.stride, (3, 3), strict=True)]
        edges = [edge for each in total[::-1] for edge in (each // 2, each - each // 2)]
        return super().forward(nn.functional.pad(x, edges))


class Standardised(nn.Conv2d):
    """Computes with other weights than it holds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


class Demanding(nn.Conv2d):
    """Takes more than an input."""

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x) * scale


def test_a_layers_own_forward_counts(keras: Any, network: Any) -> None:
    layer = keras.layers.Conv2D(3, 3, strides=2, padding="same")
    report = verify(*network((9, 8, 2), ("conv", layer, SamePadding(2, 3, 3, stride=2))))
    assert (report.ok, report.layers[0].reason) == (True, "")
    report = verify(*network((9, 8, 2), ("conv", keras.layers.Conv2D(3, 3), Standardised(2, 3, 3))))
    assert report.first is not None
    assert report.first.reason == "the numbers are the file's, but the module computes something else with them"


def test_a_layer_that_does_not_run_alone_has_its_numbers_compared(keras: Any, network: Any) -> None:
    module, path = network((9, 8, 2), ("conv", keras.layers.Conv2D(3, 3), Demanding(2, 3, 3)))
    report = verify(module, path)
    assert report.ok
    assert report.layers[0].reason.startswith("the numbers were compared: it does not run alone (")
    module.state_dict()["conv.weight"].mul_(2)
    assert not verify(module, path).ok
