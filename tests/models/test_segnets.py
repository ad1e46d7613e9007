"""The SegNets: Keras's convolutions between a pooling and an unpooling written here with NumPy, loaded by name."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from originals import BLOCKS, basic_layers, decoder_names, encoder_names, segnet_layers
from originals import SEGNET_WIDTHS as WIDTHS
from torch.nn import functional as F

import bridge
from torch_convae.errors import ConvaeError
from torch_convae.models import create
from torch_convae.models.blocks import max_unpool

Array = np.ndarray


def applied(model: Any, name: str, x: Array) -> Array:
    """One layer of a Keras model on maps (N, H, W, C)."""
    output: Array = model.get_layer(name)(np.ascontiguousarray(x), training=False).detach().numpy()
    return output


def pooled(x: Array) -> tuple[Array, Array]:
    """Maps (N, H, W, C) halved, rounding up, and the place of each value in its window: the first of equal ones."""
    count, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=-np.inf)
    windows = padded.reshape(count, -(-height // 2), 2, -(-width // 2), 2, channels).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(*windows.shape[:4], 4)
    return windows.max(-1), windows.argmax(-1)


def unpooled(x: Array, places: Array, height: int, width: int) -> Array:
    """Each value back in its place, zeros elsewhere."""
    windows = np.where(np.arange(4) == places[..., None], x[..., None], np.float32(0))
    count, halved, narrowed, channels, _ = windows.shape
    windows = windows.reshape(count, halved, narrowed, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return windows.reshape(count, 2 * halved, 2 * narrowed, channels)[:, :height, :width]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def segnet_in_keras(model: Any, order: str, x: Array) -> Array:
    def unit(name: str, x: Array) -> Array:
        x = applied(model, name, x)
        if order == "conv-bn-relu":
            return relu(applied(model, f"{name}_bn", x))
        return applied(model, f"{name}_bn", relu(x))

    places = []
    for block in BLOCKS:
        for name in encoder_names(block):
            x = unit(name, x)
        size = x.shape[1:3]
        x, place = pooled(x)
        places.append((place, *size))
    for block in reversed(BLOCKS):
        x = unpooled(x, *places.pop())
        for name in decoder_names(block):
            x = applied(model, name, x) if name == "conv1_1_D" else unit(name, x)
    return x


def neighbours_normalised(x: Array) -> Array:
    """Caffe's LRN across channels: 5 of them, alpha 1e-4, beta 0.75."""
    squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    total = sum(squares[..., shift : shift + x.shape[-1]] for shift in range(5))
    result: Array = x / (1 + 1e-4 / 5 * total) ** 0.75
    return result.astype(np.float32)


def basic_in_keras(model: Any, x: Array) -> Array:
    places, x = [], neighbours_normalised(x)
    for level in (1, 2, 3, 4):
        x = relu(applied(model, f"conv{level}_bn", applied(model, f"conv{level}", x)))
        size = x.shape[1:3]
        x, place = pooled(x)
        places.append((place, *size))
    for level in (4, 3, 2, 1):
        x = applied(model, f"conv_decode{level}", unpooled(x, *places.pop()))
        x = applied(model, f"conv_decode{level}_bn", x)
    return applied(model, "conv_classifier", x)


def assert_close(module: Any, x: Array, expected: Array) -> None:
    """Within float32's rounding of logits that are of this size; a hundredth of it would be another network."""
    with torch.inference_mode():
        ours = module.eval()(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    size = np.abs(expected).max()
    assert size > 0.1
    np.testing.assert_allclose(ours / size, expected / size, rtol=1e-4, atol=1e-5)


SIZES = [(32, 64), (45, 38), (1, 7), (23, 33)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["conv-bn-relu", "conv-relu-bn"])
def test_segnet_is_that_of_keras_around_a_true_unpooling(
    order: str, size: tuple[int, int], keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    model = randomised(segnet_layers(keras, 3, 6))
    module = create("segnet", classes=6, order=order, widths=WIDTHS)
    plan = bridge.load(module, saved(model), strict=True)
    assert len(plan.copied) == 26 * 2 + 25 * 4
    x = images(2, *size, 3)
    assert_close(module, x, segnet_in_keras(model, order, x))


def test_the_two_orders_are_two_functions_of_the_same_weights() -> None:
    torch.manual_seed(0)
    authors = create("segnet", classes=3, widths=WIDTHS).eval()
    theirs = create("segnet", classes=3, widths=WIDTHS, order="conv-relu-bn").eval()
    for layer in authors.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.bias.data.normal_()
    theirs.load_state_dict(authors.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert (authors(x) - theirs(x)).abs().max() > 0.1


@pytest.mark.parametrize(("size", "channels"), [((16, 32), 3), ((45, 30), 1), ((9, 23), 7)])
def test_segnet_basic_is_that_of_keras_around_a_true_unpooling(
    size: tuple[int, int], channels: int, keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    model = randomised(basic_layers(keras, channels, 5, 8))
    module = create("segnet_basic", classes=5, in_channels=channels, width=8)
    bridge.load(module, saved(model), strict=True)
    x = 100 * images(2, *size, channels)  # raw values, as the authors give: small ones are not normalised
    assert_close(module, x, basic_in_keras(model, x))


def test_a_file_with_vgg16s_names_fills_the_encoder(keras: Any, randomised: Any, saved: Any, images: Any) -> None:
    named = randomised(segnet_layers(keras, 3, 6))
    path = saved(randomised(segnet_layers(keras, 3, 6, vgg_names=True)), weights_only=True)
    module = create("segnet", classes=6, widths=WIDTHS)
    bridge.load(module, path, strict=True)
    x = images(1, 32, 32, 3)
    assert_close(module, x, segnet_in_keras(named, "conv-bn-relu", x))


def test_keras_vgg16_leaves_the_normalisation_and_the_decoder_untouched(
    keras: Any, randomised: Any, saved: Any
) -> None:
    layers = keras.layers
    inputs = x = layers.Input((32, 32, 3))
    for block in BLOCKS:
        for name in encoder_names(block):
            called = f"block{block}_conv{name[6]}"
            x = layers.Conv2D(WIDTHS[block - 1], 3, padding="same", activation="relu", name=called)(x)
    module = create("segnet", classes=6, widths=WIDTHS)
    plan = bridge.load(module, saved(randomised(keras.Model(inputs, x))))
    assert plan.skipped == ()
    assert {copy.target.split(".")[0] for copy in plan.copied.values()} == {
        name for block in BLOCKS for name in encoder_names(block)
    }
    assert all("_bn." in target or "_D." in target for target in plan.untouched)


@pytest.fixture(scope="module")
def vgg16_bn() -> Any:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    with torch.device("meta"):
        network = models.vgg16_bn().features
    network = network.to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            near_one = name.endswith(("running_var", "weight")) and tensor.ndim == 1
            tensor.copy_(torch.rand_like(tensor) + 0.5 if near_one else torch.randn_like(tensor) * 0.05)
        else:
            tensor.zero_()
    return network.eval()


@pytest.mark.parametrize("counters", [True, False], ids=["with counters", "without, as published"])
def test_every_tensor_of_torchvisions_vgg16_bn_lands_in_its_place_and_computes_what_it_did(
    counters: bool, vgg16_bn: Any
) -> None:
    """Pairing the two state dicts by order, as the original does, gets six of the 78 tensors right."""
    weights = {
        f"features.{name}": tensor
        for name, tensor in vgg16_bn.state_dict().items()
        if counters or not name.endswith("num_batches_tracked")
    }
    module = create("segnet", classes=6).eval()
    plan = bridge.load(module, weights)
    copied = {
        copy.target: copy.source.replace("/", ".") for copy in plan.copied.values() if "num_batches" not in copy.target
    }
    assert len(copied) == 78
    assert copied["conv1_1.weight"] == "features.0.weight"
    assert copied["conv5_3_bn.running_var"] == "features.41.running_var"
    seen: dict[str, torch.Tensor] = {}
    module.relu.register_forward_hook(lambda *given: seen.setdefault(len(seen), given[2]))
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        module(x)
        expected = vgg16_bn[:43](x)  # to the last ReLU, before the last pooling
    torch.testing.assert_close(seen[12], expected, rtol=1e-4, atol=1e-5)
    assert expected.max() > 0.1


def test_state_dicts_of_deep_nets_for_eo_fit_as_they_are() -> None:
    names = [name for block in BLOCKS for name in encoder_names(block)]
    names += [name for block in reversed(BLOCKS) for name in decoder_names(block)]
    expected = []
    for name in names:
        expected += [f"{name}.weight", f"{name}.bias"]
        if name != "conv1_1_D":
            roles = "weight bias running_mean running_var num_batches_tracked".split()
            expected += [f"{name}_bn.{role}" for role in roles]
    with torch.device("meta"):
        state = create("segnet", classes=6, order="conv-relu-bn").state_dict()
    assert list(state) == expected
    assert len(state) == 177
    assert state["conv4_1_D.weight"].shape == (256, 512, 3, 3)
    assert state["conv5_1_D.weight"].shape == (512, 512, 3, 3)


@pytest.mark.parametrize("widths", [WIDTHS[:4], (*WIDTHS, 14)])
@pytest.mark.parametrize("name", ["segnet", "bayesian_segnet"])
def test_widths_that_are_not_five_are_refused(name: str, widths: tuple[int, ...]) -> None:
    with pytest.raises(ConvaeError, match="channels of 5 blocks"):
        create(name, classes=2, widths=widths)


def test_an_unknown_order_is_refused_with_the_two() -> None:
    with pytest.raises(ConvaeError, match="SegNet's order is conv-bn-relu or conv-relu-bn, not bn-conv-relu"):
        create("segnet", classes=2, order="bn-conv-relu")


def test_segnet_wants_imagenets_statistics_as_vgg16_bn_does_and_other_channels_want_none() -> None:
    assert create("segnet", classes=2, widths=WIDTHS).preprocessing.mode == "torch"
    assert create("segnet", classes=2, in_channels=4, widths=WIDTHS).preprocessing.mode == "unit"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 13), st.integers(1, 13)),
    levels=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_unpooling_gives_the_bits_of_nn_max_unpool2d_at_every_size(
    layout: torch.memory_format, shape: tuple[int, ...], levels: int, seed: int
) -> None:
    """Few different values, so that windows hold equal ones."""
    x = torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed)).float().to(memory_format=layout)
    halved, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    ours = max_unpool(halved, indices, (shape[2], shape[3]))
    assert torch.equal(ours, torch.nn.MaxUnpool2d(2)(halved, indices, output_size=shape[2:]))
    theirs = unpooled(*pooled(x.permute(0, 2, 3, 1).numpy()), shape[2], shape[3])
    np.testing.assert_array_equal(ours.permute(0, 2, 3, 1).numpy(), theirs)


def test_of_equal_values_the_first_one_keeps_its_place() -> None:
    x = torch.ones(1, 1, 3, 3)
    halved, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    assert max_unpool(halved, indices, (3, 3)).tolist() == [[[[1, 0, 1], [0, 0, 0], [1, 0, 1]]]]


def test_a_side_that_nn_max_unpool2d_misplaces_silently_is_right_here() -> None:
    x = 20 - torch.arange(20.0).reshape(1, 1, 4, 5)
    halved, indices = F.max_pool2d(x, 2, return_indices=True)
    right = max_unpool(halved, indices, (4, 5))
    assert torch.equal(right, torch.where(torch.isin(x, halved), x, 0))
    misplaced = torch.nn.MaxUnpool2d(2)(halved, indices)
    assert misplaced.shape == (1, 1, 4, 4)
    assert not torch.equal(misplaced, right[..., :4])


def test_gradients_go_through_the_unpooling_to_the_values_that_won() -> None:
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.double, requires_grad=True)

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        halved, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        return max_unpool(halved, indices, (5, 7))

    assert torch.autograd.gradcheck(there_and_back, (x,))


# Bayesian SegNet


@pytest.fixture
def bayesian() -> Any:
    """A network that is unsure: its weights are as they came."""
    torch.manual_seed(0)
    return create("bayesian_segnet", classes=4, widths=WIDTHS).eval()


PICTURES = torch.randint(0, 256, (2, 3, 45, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_bayesian_segnet_drops_where_the_authors_do(bayesian: Any) -> None:
    """Behind the pooling of the encoder's last three blocks, and behind the decoder's first three."""
    seen: list[tuple[str, int]] = []
    for name, layer in bayesian.dropouts.items():
        layer.register_forward_hook(lambda _, given, __, name=name: seen.append((name, given[0].shape[2])))
    bayesian(torch.zeros(1, 3, 64, 64))
    assert seen == [
        ("encdrop3", 8),
        ("encdrop4", 4),
        ("encdrop5", 2),
        ("decdrop5", 4),
        ("decdrop4", 8),
        ("decdrop3", 16),
    ]
    assert {layer.p for layer in bayesian.dropouts.values()} == {0.5}


def test_without_dropout_bayesian_segnet_is_segnet(bayesian: Any) -> None:
    plain = create("segnet", classes=4, widths=WIDTHS).eval()
    plain.load_state_dict(bayesian.state_dict())
    x = torch.randn(1, 3, 33, 40)
    assert torch.equal(bayesian(x), plain(x))
    sure = create("bayesian_segnet", classes=4, widths=WIDTHS, dropout=0.0)
    sure.load_state_dict(bayesian.state_dict())
    mean, uncertainty = sure.predict_with_uncertainty(PICTURES, samples=3)
    torch.testing.assert_close(mean, plain.predict(PICTURES))
    assert uncertainty.max() < 1e-12


def test_prediction_keeps_dropout_on_and_nothing_else_changes(bayesian: Any) -> None:
    bayesian.train()
    bayesian.conv1_1_bn.eval()
    modes = {name: part.training for name, part in bayesian.named_modules()}
    state = {name: tensor.clone() for name, tensor in bayesian.state_dict().items()}
    assert not torch.equal(bayesian.predict(PICTURES, samples=1), bayesian.predict(PICTURES, samples=1))
    assert {name: part.training for name, part in bayesian.named_modules()} == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in bayesian.state_dict().items())
    bayesian.eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(bayesian(x), bayesian(x))


def test_the_mean_and_the_uncertainty_are_those_of_the_single_passes(bayesian: Any) -> None:
    torch.manual_seed(5)
    passes = torch.stack([bayesian.predict(PICTURES, samples=1) for _ in range(7)])
    torch.manual_seed(5)
    mean, uncertainty = bayesian.predict_with_uncertainty(PICTURES, samples=7)
    torch.testing.assert_close(mean, passes.mean(0))
    torch.testing.assert_close(uncertainty, passes.var(0, correction=0).mean(1))
    assert mean.shape == (2, 4, 45, 32)
    assert uncertainty.shape == (2, 45, 32)
    assert uncertainty.min() >= 0
    assert uncertainty.max() > 1e-4
    torch.testing.assert_close(mean.sum(1), torch.ones(2, 45, 32))
    torch.manual_seed(5)
    assert torch.equal(bayesian.predict(PICTURES, samples=7), mean)


def test_dropout_is_off_again_after_a_prediction_that_failed(bayesian: Any) -> None:
    with pytest.raises(ConvaeError, match=r"takes images \(N, 3, H, W\), not \(1, 5, 32, 32\)"):
        bayesian.predict(torch.zeros(1, 5, 32, 32))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(bayesian(x), bayesian(x))


def test_a_prediction_of_no_samples_is_refused(bayesian: Any) -> None:
    with pytest.raises(ConvaeError, match="from 1 sample or more, not 0"):
        bayesian.predict_with_uncertainty(PICTURES, samples=0)
