"""Networks that keep a map's channels in its last axis, as Swin and ConvNeXt do: what is given is maps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import torch_convae
from torch_convae.explain import gradcam
from torch_convae.layers import find, layers


class Mixed(nn.Module):
    """A convolution, a layer along the last axis as ConvNeXt has it, and classes; more rows than columns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 2, stride=2)
        self.norm, self.wide, self.act = nn.LayerNorm(5), nn.Linear(5, 7), nn.GELU()
        self.last = nn.Conv2d(7, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.act(self.wide(self.norm(self.stem(x).permute(0, 2, 3, 1))))
        logits: Tensor = self.head(
            (maps * 2).movedim(-1, 1).mul(self.last(maps.movedim(-1, 1))[:, :1]).mean((2, 3))[:, :4]
        )
        return logits


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def given_by(model: nn.Module, path: str, x: Tensor) -> Tensor:
    """What a part of the network gives, by a hook."""
    found: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda *call: found.append(call[-1].clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return found[-1]


@pytest.mark.parametrize(
    ("make", "names", "last"),
    [
        (lambda: torchvision.models.swin_t(num_classes=4), ("features.1.0", "features.2.norm", "features.7.1"), True),
        (lambda: torchvision.models.swin_t(num_classes=4), ("features.0.0", "permute"), False),
        (
            lambda: torchvision.models.convnext_tiny(num_classes=4),
            ("features.1.0.block.3", "features.3.2.block.5"),
            True,
        ),
        (
            lambda: torchvision.models.convnext_tiny(num_classes=4),
            ("features.1.0", "features.0.1", "features.7.2"),
            False,
        ),
        (Mixed, ("norm", "wide", "act"), True),
        (Mixed, ("stem", "last"), False),
    ],
    ids=[
        "swin",
        "swin's convolution and end",
        "within convnext's blocks",
        "convnext's blocks",
        "mixed",
        "mixed, in front",
    ],
)
def test_maps_are_listed_given_and_pooled_with_their_channels_first(
    make: Callable[[], nn.Module], names: tuple[str, ...], last: bool
) -> None:
    model, x = randomised(make()), torch.randn(2, 3, 64, 96)
    listed = {name: find(layers(model, (3, 64, 96)), name) for name in names}
    maps = torch_convae.features(model, x, names)
    pooled = torch_convae.features(model, x, names, pool="avg")
    as_keras = torch_convae.features(model, x, names, order="hwc", pool="flatten")
    for name in names:
        raw = given_by(model, name, x)
        first = raw.movedim(-1, 1) if last else raw
        assert listed[name].shape == tuple(first.shape[1:]), name
        assert torch.equal(maps[name], first), name
        torch.testing.assert_close(pooled[name], first.mean((2, 3)))
        assert torch.equal(as_keras[name], first.movedim(1, -1).flatten(1)), name


def test_gradcam_weighs_channels_wherever_they_lie() -> None:
    model, x = randomised(Mixed()), torch.randn(2, 3, 16, 24)
    maps = given_by(model, "act", x).requires_grad_()
    turned = maps.movedim(-1, 1)
    logits = model.head((turned * 2).mul(model.last(turned)[:, :1]).mean((2, 3))[:, :4])
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), maps)
    expected = (gradient.mean((1, 2), keepdim=True) * maps.detach()).sum(-1).relu()
    expected = nn.functional.interpolate(expected[:, None], (16, 24), mode="bilinear")[:, 0]
    expected = expected / expected.amax((-2, -1), keepdim=True).clamp(min=1e-30)
    assert float(expected.max()) == 1
    torch.testing.assert_close(gradcam(model, x, "act", target=1), expected, rtol=1e-4, atol=1e-5)
