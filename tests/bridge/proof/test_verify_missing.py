"""A layer is not called the same where one of its weights has no place, or no source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bridge
from bridge.verify import verify

Made = Callable[[nn.Conv2d], nn.Module]
PARAMETRIZED = nn.utils.parametrizations


def state_of(convolution: nn.Conv2d, chain: Any) -> dict[str, torch.Tensor]:
    return dict(chain(("c", convolution)).state_dict())


def test_a_bias_of_a_state_dict_that_the_module_does_without_is_missed(chain: Any) -> None:
    state, module = state_of(nn.Conv2d(3, 4, 3), chain), chain(("c", nn.Conv2d(3, 4, 3, bias=False)))
    bridge.load(module, state)
    report = verify(module, state)
    assert (report.ok, report.layers[0].reason) == (False, "the module's c takes no bias")
    state["c.bias"].zero_()
    assert verify(module, state).ok, "a bias of nothing is none"


def test_a_bias_of_the_module_that_a_state_dict_has_nothing_for_is_seen(chain: Any) -> None:
    state, module = state_of(nn.Conv2d(3, 4, 3, bias=False), chain), chain(("c", nn.Conv2d(3, 4, 3)))
    bridge.load(module, state)
    report = verify(module, state)
    assert (report.ok, report.layers[0].reason) == (False, "the source has nothing for c.bias")
    module.state_dict()["c.bias"].zero_()
    assert verify(module, state).ok


def test_what_is_left_out_on_purpose_is_not_missed(chain: Any) -> None:
    state, module = state_of(nn.Conv2d(3, 4, 3), chain), chain(("c", nn.Conv2d(3, 4, 3)))
    bridge.load(module, state, skip="c.bias")
    assert verify(module, state, skip="c.bias").ok


@pytest.mark.parametrize("made", [PARAMETRIZED.weight_norm, PARAMETRIZED.spectral_norm], ids=["weight", "spectral"])
def test_a_kernel_that_a_parametrization_takes_the_place_of_is_missed(
    made: Made, keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3, name="c")])))
    module = chain(("c", made(nn.Conv2d(3, 4, 3))))
    bridge.load(module, path)
    report = verify(module, path)
    assert (report.ok, report.layers[0].reason) == (False, "the module's c takes no kernel")


class Scaled(nn.Conv2d):
    """It cannot be asked to compute by itself."""

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x) * scale


def test_a_layer_whose_numbers_are_only_compared_needs_all_of_them(
    keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3, name="c")])))
    for bias in (True, False):
        module = chain(("c", Scaled(3, 4, 3, bias=bias)))
        bridge.load(module, path)
        assert verify(module, path).ok == bias


def test_what_a_low_rank_update_adds_is_missed(keras: Any, randomised: Any, saved: Any, chain: Any) -> None:
    model = randomised(keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="d")]))
    model.get_layer("d").enable_lora(2)
    path: Path = saved(randomised(model))
    module = chain(("d", nn.Linear(6, 4)))
    assert bridge.load(module, path, skip="*/lora_*").skipped == ("d/lora_kernel_a", "d/lora_kernel_b")
    with pytest.raises(bridge.BridgeError, match="d has LoRA adapters beside its weights"):
        verify(module, path)
