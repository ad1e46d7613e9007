"""The U-Nets compute what Keras computes for the originals' layers, loaded from their files without any mapping."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from originals import (
    Shape,
    azavea,
    convolution,
    jocicmarko,
    shallow,
    to_about_one,
    vgg_decoded,
    vgg_pools,
    zhixuhao,
)

import bridge
from torch_convae.errors import ConvaeError
from torch_convae.models import create

NARROW = (4, 6, 8, 10, 12)
WIDE = (8, 12, 16, 20)
# name of the model, our options beside classes and in_channels, the same network in Keras, shape, classes
CASES: dict[str, tuple[str, dict[str, Any], Callable[..., Any], dict[str, Any], Shape, int]] = {
    "azavea": ("azavea_unet", {}, azavea, {"blocks": 5}, (32, 48, 3), 6),
    "azavea, 2 blocks, 6 channels": ("azavea_unet", {"blocks": 2}, azavea, {"blocks": 2}, (10, 6, 6), 2),
    "azavea, 3 blocks, 1 class": ("azavea_unet", {"blocks": 3}, azavea, {"blocks": 3}, (12, 20, 1), 1),
    "jocicmarko": (
        "jocicmarko_unet",
        {"widths": NARROW},
        jocicmarko,
        {"widths": NARROW, "up": "transpose"},
        (32, 48, 1),
        1,
    ),
    "jocicmarko, up-sampling": (
        "jocicmarko_unet",
        {"widths": NARROW, "up": "upsample"},
        jocicmarko,
        {"widths": NARROW, "up": "upsample"},
        (48, 16, 3),
        4,
    ),
    "zhixuhao": ("zhixuhao_unet", {"widths": NARROW}, zhixuhao, {"widths": NARROW}, (32, 48, 1), 1),
    "zhixuhao, 3 levels": ("zhixuhao_unet", {"widths": (4, 6, 8)}, zhixuhao, {"widths": (4, 6, 8)}, (12, 20, 4), 5),
    "shallow": (
        "shallow_unet",
        {},
        shallow,
        {"widths": (32, 64, 128), "features": "seg_feats", "relu_logits": False},
        (12, 20, 3),
        10,
    ),
    "shallow, 2020": (
        "shallow_unet",
        {"widths": (4, 6, 8), "named_features": False},
        shallow,
        {"widths": (4, 6, 8), "features": None, "relu_logits": False},
        (8, 4, 3),
        4,
    ),
    "shallow, 2017": (
        "shallow_unet",
        {"widths": (4, 6, 8), "named_features": False, "relu_logits": True},
        shallow,
        {"widths": (4, 6, 8), "features": None, "relu_logits": True},
        (8, 4, 1),
        4,
    ),
    "vgg_segnet": (
        "vgg_segnet",
        {"widths": WIDE},
        vgg_decoded,
        {"widths": WIDE, "features": "seg_feats", "skips": False, "relu": False},
        (32, 48, 3),
        10,
    ),
    "vgg_segnet, 2019, odd sides": (
        "vgg_segnet",
        {"widths": WIDE, "named_features": False},
        vgg_decoded,
        {"widths": WIDE, "features": None, "skips": False, "relu": False},
        (45, 38, 1),
        3,
    ),
    "vgg_unet": (
        "vgg_unet",
        {"widths": WIDE},
        vgg_decoded,
        {"widths": WIDE, "features": "seg_feats", "skips": True, "relu": True},
        (32, 48, 3),
        10,
    ),
    "vgg_unet, 2019, odd sides": (
        "vgg_unet",
        {"widths": WIDE, "named_features": False, "relu": False},
        vgg_decoded,
        {"widths": WIDE, "features": None, "skips": True, "relu": False},
        (33, 49, 4),
        2,
    ),
}


@pytest.mark.parametrize(("name", "options", "make", "made_with", "shape", "classes"), CASES.values(), ids=CASES.keys())
def test_a_unet_is_that_of_keras(
    name: str,
    options: dict[str, Any],
    make: Callable[..., Any],
    made_with: dict[str, Any],
    shape: Shape,
    classes: int,
    keras: Any,
    randomised: Any,
    saved: Any,
    assert_same: Any,
    images: Any,
) -> None:
    x = images(2, *shape)
    model = to_about_one(randomised(make(keras, shape, classes, **made_with)), x)
    module = create(name, classes=classes, in_channels=shape[2], **options)
    plan = bridge.load(module, saved(model), strict=True)
    assert plan.notes == ()
    assert_same(model, module, x)


@pytest.mark.parametrize("case", ["zhixuhao, 3 levels", "jocicmarko", "vgg_unet"])
def test_a_file_of_weights_alone_from_late_in_a_session_fits_too(
    case: str, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    name, options, make, made_with, shape, classes = CASES[case]
    for _ in range(9):
        keras.layers.Conv2D(1, 1)
    keras.layers.BatchNormalization()
    keras.layers.Conv2DTranspose(1, 2)
    model = randomised(make(keras, shape, classes, **made_with))
    module = create(name, classes=classes, in_channels=shape[2], **options)
    bridge.load(module, saved(model, weights_only=True), strict=True)
    assert_same(model, module, images(1, *shape))


# What Keras can build, and what it cannot, level by level.
SIDES = {
    "azavea, 3 blocks, 1 class": (16, 18, 20, 21, 22, 23, 24),
    "jocicmarko": (31, 32, 33, 40, 48),
    "zhixuhao": (31, 32, 33, 40, 48),
    "shallow, 2020": (4, 5, 6, 7, 8),
    "vgg_unet": (16, 17, 18, 24, 31, 32, 33),
    "vgg_segnet": (16, 17, 31, 32, 33),
}


@pytest.mark.parametrize(("case", "side"), [(case, side) for case, sides in SIDES.items() for side in sides])
def test_the_sizes_that_keras_can_build_are_taken_and_the_others_refused_in_one_line(
    case: str, side: int, keras: Any
) -> None:
    name, options, make, made_with, (height, _, channels), classes = CASES[case]
    module = create(name, classes=classes, in_channels=channels, **options).eval()
    x = torch.zeros(1, channels, height, side)
    try:
        expected = make(keras, (height, side, channels), classes, **made_with).output.shape
    except ValueError:
        with pytest.raises(ConvaeError, match=rf"multiples of \d+.* not {height} x {side}\. Resize or pad") as caught:
            module(x)
        assert "\n" not in str(caught.value)
    else:
        assert module(x).shape == (1, classes, *expected[1:3])


@pytest.mark.parametrize("size", [(15, 32), (32, 0), (8, 8)])
@pytest.mark.parametrize("name", ["vgg_segnet", "vgg_unet"])
def test_images_that_would_be_pooled_away_are_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ConvaeError, match=f"16.*, not {size[0]} x {size[1]}"):
        create(name, classes=2, widths=WIDE)(torch.zeros(1, 3, *size))


def test_azaveas_second_relu_is_kept() -> None:
    """What BatchNormalization makes negative is lost before the next convolution."""
    encoder = create("azavea_unet", classes=2, blocks=2).eval().encoder
    torch.nn.init.constant_(encoder.batch_norm_1_2.bias, -1e6)
    with torch.inference_mode():
        assert encoder(torch.randn(1, 3, 4, 6))[0].abs().max() == 0


def test_the_weights_of_a_vgg16_unets_decoder_fit_azaveas_but_for_the_kernels_that_take_its_wider_maps(
    keras: Any, randomised: Any, saved: Any
) -> None:
    path = saved(randomised(azavea(keras, (16, 16, 3), 6, blocks=5)))
    first = [f"conv_{block}_1" for block in (6, 7, 8, 9)]
    plan = bridge.load(create("vgg16_unet", classes=6), path, skip=[f"{name}/kernel" for name in first])
    kept = {f"conv_{block}_{stage}" for block in (6, 7, 8, 9) for stage in (1, 2)}
    kept |= {f"batch_norm_{block}_{stage}" for block in (6, 7, 8, 9) for stage in (1, 2)} | {"conv_10_1"}
    assert {key.split("/")[0] for key in plan.copied} == kept
    with pytest.raises(bridge.BridgeError, match=r"conv_6_1/kernel is .*768.*1024"):
        bridge.load(create("vgg16_unet", classes=6), path)


def test_zhixuhaos_up_convolution_looks_right_and_down() -> None:
    """A kernel of 2x2 with `same` padding takes the pixel itself and its neighbours at the right and below."""
    up = create("zhixuhao_unet", widths=(1, 1)).decoder.ups[0]
    kernel = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    up.conv2d_4.weight.data.copy_(kernel)
    given = up(torch.tensor([[[[1.0, 2.0]]]]))
    assert given.tolist() == [[[[1111.0, 2121.0, 2222.0, 202.0], [11.0, 21.0, 22.0, 2.0]]]]


def test_zhixuhao_hands_across_the_second_coarsest_map_behind_its_dropout() -> None:
    torch.manual_seed(0)
    module = create("zhixuhao_unet", widths=NARROW, dropout=0.5).train()
    seen: dict[str, torch.Tensor] = {}
    module.encoder.blocks[3].dropout_1.register_forward_hook(lambda *given: seen.update(dropped=given[2]))
    module.decoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.update(put_together=given[0]))
    module(torch.randn(1, 1, 32, 32))
    assert (seen["dropped"] == 0).float().mean() > 0.4
    assert torch.equal(seen["put_together"][:, : NARROW[3]], seen["dropped"])
    dropouts = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Dropout)]
    assert dropouts == ["encoder.blocks.3.dropout_1", "encoder.blocks.4.dropout_1"]


def test_the_shallow_unet_drops_between_the_two_convolutions_of_every_block() -> None:
    module = create("shallow_unet", classes=2)
    blocks = [*module.encoder.blocks, *module.decoder.blocks]
    assert [[type(step).__name__ for step in block] for block in blocks] == [
        ["Conv2d", "ReLU", "Dropout", "Conv2d", "ReLU"]
    ] * 5
    assert {block.dropout.p for block in blocks} == {0.2}


@pytest.mark.parametrize("name", ["vgg_segnet", "vgg_unet"])
def test_a_vgg16_from_keras_fills_the_encoder_of_both_vgg_networks(
    name: str, keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    inputs = keras.layers.Input((32, 32, 3))
    pools = vgg_pools(keras.layers, inputs, WIDE)
    fifth = convolution(keras.layers, pools[-1], 24, name="block5_conv1")
    model = randomised(keras.Model(inputs, [fifth, pools[-1]]))
    module = create(name, classes=3, widths=WIDE).eval()
    plan = bridge.load(module, saved(model))
    assert plan.skipped == ("block5_conv1/kernel", "block5_conv1/bias")
    assert all(target.startswith("decoder.") for target in plan.untouched)
    x = images(1, 32, 32, 3)
    with torch.inference_mode():
        ours = module.encoder.pool(module.encoder(torch.from_numpy(x).permute(0, 3, 1, 2))[-1])
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), model(x)[1].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_file_of_2017_whose_batch_normalization_ran_over_the_width_is_refused_in_one_line(
    keras: Any, randomised: Any, saved: Any
) -> None:
    inputs = keras.layers.Input((32, 48, 3))
    x = keras.layers.Conv2D(WIDE[-1], 3, padding="same")(vgg_pools(keras.layers, inputs, WIDE)[-1])
    path = saved(randomised(keras.Model(inputs, keras.layers.BatchNormalization(axis=2)(x))), weights_only=True)
    with pytest.raises(bridge.BridgeError, match=r"batch_normalization/gamma is \(3,\)") as caught:
        bridge.load(create("vgg_segnet", classes=2, widths=WIDE, named_features=False), path)
    assert "\n" not in str(caught.value)


def test_a_file_of_before_the_named_features_does_not_load_by_accident(keras: Any, randomised: Any, saved: Any) -> None:
    name, _, make, made_with, shape, classes = CASES["shallow, 2020"]
    path = saved(randomised(make(keras, shape, classes, **made_with)))
    with pytest.raises(bridge.BridgeError, match="conv2d_9"):
        bridge.load(create(name, classes=classes, widths=(4, 6, 8)), path)


def test_one_class_is_a_sigmoid_and_more_are_a_softmax() -> None:
    images = torch.randint(0, 256, (1, 1, 16, 16))
    one, three = create("jocicmarko_unet", widths=(2, 3)), create("jocicmarko_unet", classes=3, widths=(2, 3))
    assert torch.equal(one.predict(images), one.eval()(images / 255).sigmoid())
    torch.testing.assert_close(three.predict(images).sum(1), torch.ones(1, 16, 16))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "one block": ("azavea_unet", {"classes": 2, "blocks": 1}, "2 to 5 encoder blocks, not 1"),
    "six blocks": ("azavea_unet", {"classes": 2, "blocks": 6}, "2 to 5 encoder blocks, not 6"),
    "an unknown way up": ("jocicmarko_unet", {"up": "bilinear"}, "up='transpose' or 'upsample', not 'bilinear'"),
    "one level": ("zhixuhao_unet", {"widths": [8]}, "two levels or more, not (8,)"),
    "no channels": ("shallow_unet", {"classes": 2, "widths": (4, 0, 4)}, "at least 1 for widths, not (4, 0, 4)"),
    "five blocks of four": ("vgg_unet", {"classes": 2, "widths": NARROW}, f"channels of 4 blocks, not {NARROW}"),
}


@pytest.mark.parametrize(("name", "options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_options_that_cannot_be_are_refused_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        create(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
