"""Normalisations of PyTorch's own state dicts folded away, and what is refused of any source."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from adapted_models import ROLES, weights
from torch import nn

import bridge
from bridge import adapt

Draw = Callable[..., np.ndarray]


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    for norm in (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.neg_()
    return module.eval()


TORCH_LAYERS: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "Conv1d": (nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), (3, 9)),
    "Conv2d": (nn.Conv2d(3, 5, (3, 2), bias=False), nn.BatchNorm2d(5), (3, 7, 9)),
    "Conv2d, square": (nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5), (5, 7, 9)),
    "Conv2d, depthwise": (nn.Conv2d(5, 5, 3, groups=5, bias=False), nn.BatchNorm2d(5), (5, 7, 9)),
    "Conv3d": (nn.Conv3d(3, 5, 2), nn.BatchNorm3d(5), (3, 4, 5, 6)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 5, 2), nn.BatchNorm2d(5), (3, 7, 9)),
    "Linear": (nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), (3,)),
    "without scale and shift": (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False), (3, 7, 9)),
}


@pytest.mark.parametrize(("layer", "norm", "shape"), TORCH_LAYERS.values(), ids=TORCH_LAYERS.keys())
def test_a_state_dict_is_folded_in_its_own_axes(layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
    model = drawn(nn.Sequential(layer, norm))
    folded = adapt.fold_batch_norm(bridge.apply.source_of(model.state_dict()))
    assert list(folded) == ["0/weight", "0/bias"]
    shown = torch.rand(2, *shape)
    options = {
        name: getattr(layer, name)
        for name in ("in_channels", "out_channels", "kernel_size", "groups")
        if hasattr(layer, name)
    }
    plain = type(layer)(**options) if options else nn.Linear(3, 5)
    plain.load_state_dict({name: torch.from_numpy(folded[f"0/{name}"]) for name in ("weight", "bias")})
    with torch.inference_mode():
        torch.testing.assert_close(plain(shown), model(shown), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("a", 2), ("up1", 3)])
def test_a_square_kernel_that_may_be_transposed_is_refused_unless_its_class_is_given(name: str, size: int) -> None:
    model = nn.ModuleDict({name: nn.ConvTranspose2d(4, 4, size), f"{name}_bn": nn.BatchNorm2d(4)})
    source = bridge.apply.source_of(drawn(model).state_dict())
    with pytest.raises(bridge.BridgeError, match="of a convolution or of a transposed one, and nothing tells which"):
        adapt.fold_batch_norm(source)
    folded = adapt.fold_batch_norm(replace(source, kinds={name: "Conv2DTranspose"}))
    norm = model[f"{name}_bn"]
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = (model[name].weight * factor.view(1, -1, 1, 1)).detach().numpy()
    np.testing.assert_allclose(folded[f"{name}/weight"], expected, rtol=1e-6)


def test_a_folded_vgg_of_torchvision_goes_into_the_one_without_normalisations() -> None:
    vgg = pytest.importorskip("torchvision.models.vgg")
    widths = [4, 5, "M", 6, 7, "M", 8]
    normalised, plain = (
        nn.ModuleDict({"features": vgg.make_layers(widths, batch_norm=batch_norm)}).eval()
        for batch_norm in (True, False)
    )
    folded = adapt.fold_batch_norm(bridge.apply.source_of(drawn(normalised).state_dict()))
    bridge.load(plain, folded, strict=True)
    shown = torch.rand(2, 3, 9, 11)
    with torch.inference_mode():
        expected = normalised["features"](shown)
        torch.testing.assert_close(plain["features"](shown), expected, rtol=1e-4, atol=1e-5)
    assert "The layers have their Keras names now" in folded.notes[-1]


@pytest.mark.parametrize(
    ("version", "epsilon"),
    [
        ("1", 1e-3),
        ("1.0.6", 1e-6),
        ("1.0.8", 1e-5),
        ("1.1.2", 1e-5),
        ("1.2.0", 1e-3),
        ("2.15.0-tf", 1e-3),
        (None, 1e-3),
    ],
)
def test_the_epsilon_that_a_file_does_not_say_is_the_default_of_its_time(
    version: str | None, epsilon: float, numbers: Draw
) -> None:
    source = replace(weights(numbers, ("a", 4), ("a_bn", 4)), keras_version=version)
    for folded, used in ((adapt.fold_batch_norm(source), epsilon), (adapt.fold_batch_norm(source, epsilon=0.2), 0.2)):
        gamma, beta, mean, variance = (source[f"a_bn/{role}"].astype(np.float64) for role in ROLES)
        factor = gamma / np.sqrt(variance + used)
        assert np.array_equal(folded["a/kernel"], (source["a/kernel"] * factor).astype(np.float32))
        assert np.array_equal(folded["a/bias"], ((0 - mean) * factor + beta).astype(np.float32))


def test_the_oldest_keras_divided_by_the_deviation_plus_epsilon(numbers: Draw) -> None:
    source = replace(weights(numbers, ("a", 4), ("a_bn", 4)), keras_version="1.0.5")
    gamma, _, _, variance = (source[f"a_bn/{role}"].astype(np.float64) for role in ROLES)
    folded = adapt.fold_batch_norm(source, epsilon=0.2)
    assert np.array_equal(folded["a/kernel"], (source["a/kernel"] * (gamma / (variance**0.5 + 0.2))).astype(np.float32))


def test_a_negative_variance_is_refused_when_fetched_and_the_module_stays_as_it_was(
    numbers: Draw, chain: Any, unchanged: Any
) -> None:
    arrays = dict(weights(numbers, ("a", 4), ("a_bn", 4))) | {"a_bn/moving_variance": np.float32([1, 1, -1, 1])}
    module = chain(("a", nn.Conv2d(3, 4, 3)))
    untouched = unchanged(module)
    with pytest.raises(bridge.BridgeError, match="a_bn has a variance that is not positive"):
        bridge.load(module, adapt.fold_batch_norm(bridge.apply.source_of(arrays)))
    assert untouched()


def test_half_precision_stays_half_precision(numbers: Draw) -> None:
    arrays = {key: array.astype(np.float16) for key, array in weights(numbers, ("a", 4), ("a_bn", 4)).items()}
    folded = adapt.fold_batch_norm(bridge.apply.source_of(arrays))
    assert {folded[key].dtype for key in folded} == {np.dtype(np.float16)}
    state = {"0.weight": torch.rand(4, 3, 3, 3), "1.running_mean": -torch.rand(4), "1.running_var": torch.rand(4)}
    narrow = adapt.fold_batch_norm(bridge.apply.source_of({key: value.bfloat16() for key, value in state.items()}))
    assert [(stored.dtype, narrow[key].dtype) for key, stored in narrow.stored.items()] == [
        ("bfloat16", np.float32)
    ] * 2


def test_wrong_options_and_shapes_are_refused_in_one_line(numbers: Draw) -> None:
    source = weights(numbers, ("a", 4), ("a_bn", 4))
    with pytest.raises(bridge.BridgeError, match="epsilon -1 is not between 0 and 1"):
        adapt.fold_batch_norm(source, epsilon=-1)
    with pytest.raises(bridge.BridgeError, match="there is none"):
        adapt.fold_batch_norm(weights(numbers, ("a", 4)))
    damaged = dict(source) | {"a_bn/gamma": np.ones(3, np.float32)}
    with pytest.raises(bridge.BridgeError, match=r"a_bn/gamma is \(3,\), not \(4,\)"):
        adapt.fold_batch_norm(bridge.apply.source_of(damaged))


def test_thousands_of_layers_are_paired_in_linear_time(numbers: Draw) -> None:
    kernel, vectors = numbers(1, 1, 2, 2), dict(zip(ROLES, np.float32([[1, 1], [1, 1], [-1, 1], [1, 1]]), strict=True))
    arrays = {}
    for index in range(3000):
        arrays |= {f"conv2d_{index}/kernel": kernel}
        arrays |= {f"batch_normalization_{index}/{role}": vector for role, vector in vectors.items()}
    assert len(adapt.fold_batch_norm(bridge.apply.source_of(arrays))) == 6000
