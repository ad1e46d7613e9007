"""A Dense layer behind a Flatten takes its inputs in PyTorch's order; a map that nothing tells is inferred and said."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge

Draw = Callable[..., np.ndarray]


FLATTEN, RELU = ("", nn.Flatten()), ("", nn.ReLU())


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def head(keras: Any, kind: str) -> tuple[list[Any], list[tuple[str, nn.Module]]]:
    """The layers of a small model that ends in a dense one, in Keras and in PyTorch."""
    layers, norm = keras.layers, nn.BatchNorm1d(60, eps=1e-3)
    conv, last = layers.Conv2D(5, 3, name="conv"), layers.Dense(2, name="fc")
    ours: list[tuple[str, nn.Module]] = [("conv", nn.Conv2d(3, 5, 3)), FLATTEN, ("fc", nn.Linear(60, 2))]
    steps: list[Any] = {  # 6 x 5 images, 4 x 3 maps
        "at once": [conv, layers.Flatten(), last],
        "an activation between": [conv, layers.Flatten(), layers.Activation("relu"), layers.Dropout(0.5), last],
        "a normalisation between": [conv, layers.Flatten(), layers.BatchNormalization(name="bn"), last],
        "a reshape": [conv, layers.Reshape((-1,)), last],
        "a pooling and an up-sampling": [
            conv,
            layers.MaxPooling2D((2, 1)),
            layers.UpSampling2D((2, 1)),
            layers.Flatten(),
            last,
        ],
        "padding and cropping": [conv, layers.ZeroPadding2D(1), layers.Cropping2D(1), layers.Flatten(), last],
    }[kind]
    if kind == "an activation between":
        ours[2:2] = [RELU]
    if kind == "a normalisation between":
        ours[2:2] = [("bn", norm)]
    if kind == "a pooling and an up-sampling":
        ours[1:1] = [("", nn.MaxPool2d((2, 1))), ("", nn.Upsample(scale_factor=(2, 1)))]
    return steps, ours


KINDS = [
    "at once",
    "an activation between",
    "a normalisation between",
    "a reshape",
    "a pooling and an up-sampling",
    "padding and cropping",
]


@pytest.mark.parametrize("form", ["Functional", "Sequential", "nested"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dense_layer_behind_a_flatten_takes_its_inputs_in_pytorchs_order(
    kind: str, form: str, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    steps, ours = head(keras, kind)
    layers = keras.layers
    if form == "Sequential":
        model = keras.Sequential([layers.Input((6, 5, 3)), *steps])
    else:
        x = inputs = layers.Input((6, 5, 3))
        if form == "nested":
            ours[0] = ("inner.conv", ours[0][1])
            steps = [keras.Sequential([layers.Input((6, 5, 3)), steps[0]], name="inner"), *steps[1:]]
        for step in steps:
            x = step(x)
        model = keras.Model(inputs, x)
    module = chain(*ours)
    plan = bridge.load(module, saved(randomised(model)), strict=True)
    assert_same(model, module, images(2, 6, 5, 3))
    said = str(plan.copied["fc/kernel"].transform)
    assert "inferred" not in said
    assert said.startswith("flattened (4, 3, 5)")


@pytest.mark.parametrize("mode", ["channels_first", "channels_last"])
def test_a_flatten_of_channels_first_maps_is_understood(
    mode: str, keras: Any, randomised: Any, saved: Any, chain: Any, images: Any
) -> None:
    """Keras flattens such maps as they are, unless Flatten is told that they are channels-first, too."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((3, 6, 5)),
            layers.Conv2D(5, 3, data_format="channels_first", name="conv"),
            layers.Flatten(data_format=mode),
            layers.Dense(2, name="fc"),
        ]
    )
    module = chain(("conv", nn.Conv2d(3, 5, 3)), FLATTEN, ("fc", nn.Linear(60, 2)))
    bridge.load(module, saved(randomised(model)), strict=True)
    x = images(2, 3, 6, 5)
    with torch.inference_mode():
        ours = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_dense_layer_behind_a_global_pooling_or_another_dense_layer_keeps_its_inputs(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 5, 3)),
            layers.Conv2D(5, 3, name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(20, activation="relu", name="wide"),
            layers.Dense(20, name="fc"),
        ]
    )
    module = chain(
        ("conv", nn.Conv2d(3, 5, 3)), ("", Mean()), ("wide", nn.Linear(5, 20)), RELU, ("fc", nn.Linear(20, 20))
    )
    for weights_only in (False, True):
        plan = bridge.load(module, saved(randomised(model), weights_only=weights_only), strict=True)
        assert all("flattened" not in str(copy.transform) for copy in plan.copied.values())
        assert_same(model, module, images(2, 6, 5, 3))


def flat_model(keras: Any, height: int, width: int, norm: bool = False) -> Any:
    layers = keras.layers
    between = [layers.BatchNormalization(name="bn")] if norm else []
    return keras.Sequential(
        [
            layers.Input((height, width, 3)),
            layers.Conv2D(5, 1, name="conv"),
            layers.Flatten(),
            *between,
            layers.Dense(2, name="fc"),
        ]
    )


def flat_module(chain: Any, pixels: int, norm: bool = False) -> nn.Module:
    between = [("bn", nn.BatchNorm1d(5 * pixels, eps=1e-3))] if norm else []
    return chain(("conv", nn.Conv2d(3, 5, 1)), FLATTEN, *between, ("fc", nn.Linear(5 * pixels, 2)))


@pytest.mark.parametrize("norm", [False, True], ids=["at once", "a normalisation between"])
def test_without_an_architecture_a_square_map_is_inferred_and_said(
    norm: bool, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    model, module = flat_model(keras, 4, 4, norm), flat_module(chain, 16, norm)
    plan = bridge.load(module, saved(randomised(model), weights_only=True), strict=True)
    assert "flattened (4, 4, 5)" in str(plan.copied["fc/kernel"].transform)
    assert "inferred" in str(plan)
    assert_same(model, module, images(2, 4, 4, 3))


def test_without_an_architecture_a_map_that_is_not_square_is_asked_for(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any, unchanged: Any
) -> None:
    model, module = flat_model(keras, 6, 2), flat_module(chain, 12)
    path = saved(randomised(model), weights_only=True)
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"fc takes 60 flattened values.*flatten=\{'fc': \(height, width"):
        bridge.load(module, path)
    with pytest.raises(bridge.BridgeError, match=r"fc takes 60 values, not those of a \(5, 5, 5\) map"):
        bridge.load(module, path, flatten={"fc": (5, 5, 5)})
    assert same()
    plan = bridge.load(module, path, flatten={"fc": (6, 2, 5)}, strict=True)
    assert "inferred" not in str(plan.copied["fc/kernel"].transform)
    assert_same(model, module, images(2, 6, 2, 3))


def test_flatten_overrides_what_was_inferred(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    model, module = flat_model(keras, 2, 8), flat_module(chain, 16)
    bridge.load(module, saved(randomised(model), weights_only=True), flatten={"fc": (2, 8, 5)}, strict=True)
    assert_same(model, module, images(2, 2, 8, 3))


def test_a_second_head_as_wide_as_the_first_one_s_outputs_is_doubted(
    keras: Any, saved: Any, randomised: Any, chain: Any
) -> None:
    """The file does not say whether it is behind the Flatten or behind a Dense layer of as many values."""
    layers = keras.layers
    x = keras.Input((3, 3, 3))
    flat = layers.Flatten()(layers.Conv2D(5, 2, name="conv")(x))
    both = [layers.Dense(2, name="deep")(layers.Dense(20, name="hidden")(flat)), layers.Dense(3, name="wide")(flat)]
    path = saved(randomised(keras.Model(x, both)), weights_only=True)
    linear = {"hidden": (20, 20), "deep": (20, 2), "wide": (20, 3)}
    module = chain(("conv", nn.Conv2d(3, 5, 2)), *((name, nn.Linear(*sizes)) for name, sizes in linear.items()))
    plan = bridge.load(module, path)
    (doubt,) = (note for note in plan.notes if note.startswith("wide is taken"))
    assert doubt.endswith("If it is behind that, say flatten={'wide': (2, 2, 5)}.")
    assert doubt in bridge.verify(module, path).notes, "a proof that rests on a guess says so"
    plan = bridge.load(module, path, flatten={"wide": (2, 2, 5)})
    assert not [note for note in plan.notes if note.startswith("wide")]
    assert "flattened (2, 2, 5)" in str(plan.copied["wide/kernel"].transform)


@pytest.mark.parametrize("flatten_first", [True, False])
def test_a_normalisation_of_channels_first_maps_keeps_their_order(
    flatten_first: bool, keras: Any, same: Any, chain: Any
) -> None:
    layers, first = keras.layers, {"data_format": "channels_first"}
    steps = [
        layers.ZeroPadding2D(1, **first),  # Keras on PyTorch computes no other layer of such maps on every CPU
        layers.BatchNormalization(axis=1, name="norm"),
        layers.ReLU(),
        layers.Flatten(**(first if flatten_first else {})),
        layers.Dense(2, name="fc"),
    ]
    model = keras.Sequential([keras.Input((4, 3, 2)), *steps])
    norm, linear = nn.BatchNorm2d(4, eps=1e-3), nn.Linear(80, 2)
    module = chain(("", nn.ZeroPad2d(1)), ("norm", norm), ("", nn.ReLU()), ("", nn.Flatten()), ("fc", linear))
    same(model, module, first=False)


def test_a_map_is_not_said_of_a_convolution(keras: Any, saved: Any, chain: Any) -> None:
    path = saved(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 2, name="conv")]))
    for option in ("flatten", "unflatten"):
        with pytest.raises(bridge.BridgeError, match=rf"^{option} says a map of conv, whose kernel \(2, 2, 3, 2\) is"):
            bridge.load(chain(("conv", nn.Conv2d(3, 2, 2))), path, **{option: {"conv": (2, 2, 3)}})


def test_flatten_for_a_layer_that_is_not_there_is_refused(keras: Any, saved: Any, chain: Any) -> None:
    path = saved(flat_model(keras, 4, 4), weights_only=True)
    with pytest.raises(bridge.BridgeError, match=r"flatten 'fc9' matches nothing.*fc"):
        bridge.load(flat_module(chain, 16), path, flatten={"fc9": (4, 4, 5)})


def test_normalisations_of_joined_maps_are_never_taken_for_flattened_ones(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    """As in DenseNet: four times as many channels as the convolution before, as a flattened 2 x 2 map would have."""
    layers = keras.layers
    x = inputs = layers.Input((6, 6, 3))
    maps = [layers.Conv2D(2, 3, padding="same", name=f"conv{index}")(x) for index in range(4)]
    x = layers.BatchNormalization(name="bn")(layers.Concatenate()(maps))
    x = layers.Conv2D(3, 1, name="last")(x)
    model = randomised(keras.Model(inputs, x))

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for index in range(4):
                self.add_module(f"conv{index}", nn.Conv2d(3, 2, 3, padding=1))
            self.bn, self.last = nn.BatchNorm2d(8, eps=1e-3), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.bn(torch.cat([self.get_submodule(f"conv{index}")(x) for index in range(4)], 1)))

    for weights_only in (False, True):
        module, path = Joined(), saved(model, weights_only=weights_only)
        bridge.load(module, path, strict=True)
        assert_same(model, module, images(2, 6, 6, 3))
        converted = path.with_suffix(".pt")
        bridge.convert(path, converted)
        assert torch.equal(torch.load(converted)["bn.weight"], module.bn.weight)


def test_the_map_of_a_nested_model_of_any_size_comes_from_where_it_is_used(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    layers = keras.layers
    inner_in = layers.Input((None, None, 3))
    encoder = keras.Model(inner_in, layers.Conv2D(5, 3, name="conv")(inner_in), name="encoder")
    inputs = layers.Input((8, 5, 3))
    model = randomised(keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(encoder(inputs)))))
    module = chain(("encoder.conv", nn.Conv2d(3, 5, 3)), FLATTEN, ("fc", nn.Linear(90, 2)))
    plan = bridge.load(module, saved(model), strict=True)
    assert "inferred" not in str(plan)
    assert_same(model, module, images(2, 8, 5, 3))


def test_two_flattened_maps_in_one_row_are_each_put_in_order(
    keras: Any, randomised: Any, saved: Any, numbers: Draw
) -> None:
    """As many values as one square map has."""
    layers = keras.layers
    inputs = layers.Input((4, 4, 3))
    flats = [layers.Flatten()(layers.Conv2D(5, kernel, name=f"conv{kernel}")(inputs)) for kernel in (1, 3)]
    model = randomised(keras.Model(inputs, layers.Dense(2, name="fc")(layers.Concatenate()(flats))))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv3, self.fc = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 3), nn.Linear(100, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(torch.cat([self.conv1(x).flatten(1), self.conv3(x).flatten(1)], 1))
            return logits

    module = Network()
    bridge.load(module, saved(model), strict=True)
    x = numbers(6, 4, 4, 3)
    expected = np.asarray(model(x, training=False).detach())
    ours = module(torch.from_numpy(x).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
