"""Weights in front of a Reshape to a map give in PyTorch what they gave in Keras."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch_steps import FLATTEN, LAST_STEP, Steps, to

import bridge

# What makes a map of a row, the same in PyTorch, the size of the row, and the shape the images have.
DECODERS: dict[str, tuple[Callable[[Any], list[Any]], Callable[[], Steps], int]] = {
    "to a picture": (
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Conv2DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.ConvTranspose2d(4, 3, 2))],
        24,
    ),
    "to a picture, one size left open": (
        lambda layers: [layers.Reshape((2, -1, 4)), layers.UpSampling2D(2), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Upsample(scale_factor=2)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture and nothing else": (
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Activation("tanh")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Tanh())],
        24,
    ),
    "to steps": (
        lambda layers: [layers.Reshape((5, 4)), layers.ReLU(), layers.Conv1DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 5))), ("", nn.ReLU()), ("up", nn.ConvTranspose1d(4, 3, 2))],
        20,
    ),
    "to a volume": (
        lambda layers: [
            layers.Reshape((2, 3, 1, 4)),
            layers.BatchNormalization(name="bn"),
            layers.Conv3D(3, 1, name="up"),
        ],
        lambda: [
            ("", nn.Unflatten(1, (4, 2, 3, 1))),
            ("bn", nn.BatchNorm3d(4, eps=1e-3)),
            ("up", nn.Conv3d(4, 3, 1)),
        ],
        24,
    ),
    "to channels first, permuted": (
        lambda layers: [layers.Reshape((4, 2, 3)), layers.Permute((2, 3, 1)), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture, turned": (
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Permute((2, 1, 3)), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), to(lambda x: x.transpose(2, 3)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to steps of a recurrent layer": (
        lambda layers: [layers.Reshape((5, 4)), layers.LSTM(3, name="up")],
        lambda: [("", nn.Unflatten(1, (5, 4))), ("up", nn.LSTM(4, 3, batch_first=True)), LAST_STEP],
        20,
    ),
}
BETWEEN: dict[str, tuple[Callable[[Any], list[Any]], Callable[[int], Steps]]] = {
    "at once": (lambda _: [], lambda _: []),
    "an activation between": (
        lambda layers: [layers.LeakyReLU(), layers.Dropout(0.5)],
        lambda _: [("", nn.LeakyReLU(0.3))],
    ),
    "normalisations between": (
        lambda layers: [
            layers.BatchNormalization(name="norm"),
            layers.PReLU(name="relu"),
            layers.LayerNormalization(name="layer"),
        ],
        lambda n: [("norm", nn.BatchNorm1d(n, eps=1e-3)), ("relu", nn.PReLU(n)), ("layer", nn.LayerNorm(n, eps=1e-3))],
    ),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_outputs_of_a_dense_layer_become_a_map_as_pytorch_views_it(
    decoder: str, between: str, keras: Any, same: Any, chain: Any
) -> None:
    layers, (made, ours, values), (inner, ours_inner) = keras.layers, DECODERS[decoder], BETWEEN[between]
    dense = layers.Dense(values, name="fc")
    model = keras.Sequential([layers.Input((7,)), dense, *inner(layers), *made(layers)])
    plan = same(model, chain(("fc", nn.Linear(7, values)), *ours_inner(values), *ours()))
    stays = decoder in ("to channels first, permuted", "to steps of a recurrent layer")
    moved = {copy.source.split("/")[0] for copy in plan.copied.values() if "flattened" in str(copy.transform)}
    assert moved == (set() if stays else {"fc", "norm", "relu", "layer"} & {key.split("/")[0] for key in plan.copied})


def test_a_dense_layer_may_have_a_flatten_in_front_and_a_reshape_behind(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4, 5, 3)),
            layers.Conv2D(5, 2, name="a"),
            layers.Flatten(),
            layers.Dense(24, name="fc"),
            layers.Reshape((3, 2, 4)),
            layers.Conv2D(2, 2, name="b"),
        ]
    )
    module = chain(
        ("a", nn.Conv2d(3, 5, 2)),
        FLATTEN,
        ("fc", nn.Linear(60, 24)),
        ("", nn.Unflatten(1, (4, 3, 2))),
        ("b", nn.Conv2d(4, 2, 2)),
    )
    plan = same(model, module)
    assert plan.copied["fc/kernel"].transform.maps == ((0, (3, 4, 5)), (1, (3, 2, 4)))
    assert plan.copied["fc/bias"].transform.maps == ((0, (3, 2, 4)),)


def test_a_flatten_and_a_reshape_back_need_no_order(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [
        layers.Flatten(),
        layers.BatchNormalization(name="bn"),
        layers.Reshape((3, 4, 5)),
        layers.Conv2D(2, 2, name="b"),
    ]
    model = keras.Sequential([layers.Input((4, 5, 3)), layers.Conv2D(5, 2, name="a"), *steps])
    module = chain(
        ("a", nn.Conv2d(3, 5, 2)),
        FLATTEN,
        ("bn", nn.BatchNorm1d(60, eps=1e-3)),
        ("", nn.Unflatten(1, (5, 3, 4))),
        ("b", nn.Conv2d(5, 2, 2)),
    )
    same(model, module)


GENERATOR = (
    ("fc", nn.Linear(7, 128, bias=False)),
    ("norm", nn.BatchNorm1d(128, eps=1e-3)),
    ("", nn.Unflatten(1, (8, 4, 4))),
    ("up", nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False)),
)


def generator(keras: Any, height: int = 4, width: int = 4) -> Any:
    layers = keras.layers
    steps = [
        layers.Dense(height * width * 8, use_bias=False, name="fc"),
        layers.BatchNormalization(name="norm"),
        layers.Reshape((height, width, 8)),
        layers.Conv2DTranspose(6, 4, strides=2, padding="same", use_bias=False, name="up"),
    ]
    return keras.Sequential([keras.Input((7,)), *steps])


def test_without_an_architecture_the_square_map_of_a_reshape_is_inferred_and_said(
    keras: Any, same: Any, chain: Any
) -> None:
    plan = same(generator(keras), chain(*GENERATOR), weights_only=True)
    for key in ("fc/kernel", "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance"):
        assert "flattened (4, 4, 8)" in str(plan.copied[key].transform)
        assert "inferred from shapes" in str(plan.copied[key].transform)


def test_without_an_architecture_another_map_of_a_reshape_is_asked_for(
    keras: Any, same: Any, saved: Any, chain: Any
) -> None:
    model = generator(keras, 2, 6)
    steps = ("fc", nn.Linear(7, 96, bias=False)), ("norm", nn.BatchNorm1d(96, eps=1e-3))
    module = chain(*steps, ("", nn.Unflatten(1, (8, 2, 6))), GENERATOR[3])
    with pytest.raises(bridge.BridgeError, match=r"fc gives 96 values for a map, .*unflatten=\{'fc': \(height"):
        bridge.load(module, saved(model, weights_only=True))
    same(model, module, weights_only=True, unflatten=dict.fromkeys(("fc", "norm"), (2, 6, 8)))


def test_a_decoder_has_the_map_that_its_encoder_flattened(keras: Any, same: Any, chain: Any) -> None:
    """As many values go into a row as come out of one, and are no plain row for that."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            layers.Conv2D(6, 2, name="a"),
            layers.Flatten(),
            layers.Dense(2, name="code"),
            layers.Dense(96, name="fc"),
            layers.Reshape((4, 4, 6)),
            layers.Conv2DTranspose(3, 2, name="b"),
        ]
    )
    module = chain(
        ("a", nn.Conv2d(3, 6, 2)),
        FLATTEN,
        ("code", nn.Linear(96, 2)),
        ("fc", nn.Linear(2, 96)),
        ("", nn.Unflatten(1, (6, 4, 4))),
        ("b", nn.ConvTranspose2d(6, 3, 2)),
    )
    same(model, module, weights_only=True)


def test_a_dense_layer_in_front_of_a_series_of_its_own_stays_a_row_and_the_plan_says_what_else_fits(
    keras: Any, same: Any
) -> None:
    """A table beside a series: as many outputs as four steps of it, but other values."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.series, self.head = nn.Linear(5, 32), nn.Conv1d(8, 40, 3), nn.Linear(72, 2)

        def forward(self, both: list[torch.Tensor]) -> torch.Tensor:
            table, series = both
            return self.head(torch.cat([self.table(table).relu(), self.series(series).mean(2)], 1))

    layers = keras.layers
    table, series = layers.Input((5,)), layers.Input((9, 8))
    row = layers.Dropout(0.1)(layers.ReLU()(layers.Dense(32, name="table")(table)))
    pooled = layers.GlobalAveragePooling1D()(layers.Conv1D(40, 3, name="series")(series))
    model = keras.Model([table, series], layers.Dense(2, name="head")(layers.Concatenate()([row, pooled])))
    plan = same(model, Beside(), weights_only=True)
    assert "unflatten={'table': (4, 8)}" in " ".join(plan.notes)


def test_heads_beside_a_decoder_do_not_hide_its_map(keras: Any, same: Any) -> None:
    class Supervised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.head, self.up = nn.Linear(7, 128), nn.Linear(7, 10), nn.ConvTranspose2d(8, 3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(self.map(x).view(-1, 8, 4, 4)) * self.head(x).sum(1)[:, None, None, None]

    layers = keras.layers
    x = layers.Input((7,))
    picture = layers.Reshape((4, 4, 8))(layers.Dense(128, name="map")(x))
    head = layers.Dense(10, name="head")(x)
    picture = layers.Conv2DTranspose(3, 2, name="up")(picture)
    scale = layers.Reshape((1, 1, 10))(head)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(layers.Permute((3, 2, 1))(scale))
    model = keras.Model(x, layers.Multiply()([picture, layers.Rescaling(10.0)(scale)]))
    plan = same(model, Supervised(), weights_only=True)
    assert "flattened (4, 4, 8)" in str(plan.copied["map/kernel"].transform)


def test_a_convolution_of_groups_takes_the_channels_that_its_module_knows(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Dense(512, name="fc"), layers.Reshape((4, 4, 32)), layers.Conv2D(8, 2, groups=4, name="up")]
    model = keras.Sequential([keras.Input((7,)), *steps])
    module = chain(("fc", nn.Linear(7, 512)), ("", nn.Unflatten(1, (32, 4, 4))), ("up", nn.Conv2d(32, 8, 2, groups=4)))
    plan = same(model, module, weights_only=True)
    assert "flattened (4, 4, 32)" in str(plan.copied["fc/kernel"].transform)


class Gated(nn.Module):
    """Squeeze and excitation, and a short cut whose convolution stands behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.short = nn.Conv2d(4, 16, 1), nn.Conv2d(4, 16, 1)
        self.squeeze, self.excite = nn.Linear(16, 3), nn.Linear(3, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return self.short(x) + y * self.excite(self.squeeze(y.mean((2, 3))))[..., None, None]


def test_a_gate_of_channels_is_no_map_and_the_plan_says_what_else_fits(keras: Any, same: Any) -> None:
    layers = keras.layers
    x = layers.Input((5, 4, 4))
    y = layers.Conv2D(16, 1, name="a")(x)
    gate = layers.Dense(3, name="squeeze")(layers.GlobalAveragePooling2D()(y))
    gate = layers.Reshape((1, 1, 16))(layers.Dense(16, name="excite")(gate))
    model = keras.Model(x, layers.Add()([layers.Conv2D(16, 1, name="short")(x), layers.Multiply()([y, gate])]))
    plan = same(model, Gated(), weights_only=True)
    assert "excite is taken to give 16 values in a row" in " ".join(plan.notes)
    assert "unflatten={'excite': (2, 2, 4)}" in " ".join(plan.notes)


class Conditional(nn.Module):
    """A generator that is told the class."""

    def __init__(self) -> None:
        super().__init__()
        self.noise, self.label, self.up = nn.Linear(7, 24), nn.Linear(3, 12), nn.ConvTranspose2d(6, 5, 2)

    def forward(self, given: list[torch.Tensor]) -> torch.Tensor:
        noise, label = self.noise(given[0]), self.label(given[1])
        result: torch.Tensor = self.up(torch.cat([label.view(-1, 2, 3, 2), noise.view(-1, 4, 3, 2)], 1))
        return result


@pytest.mark.parametrize("decoder", [False, True], ids=["flat", "nested"])
def test_maps_that_are_joined_are_reordered_each_by_itself(decoder: bool, keras: Any, same: Any) -> None:
    layers = keras.layers
    noise, label = layers.Input((7,)), layers.Input((3,))
    maps = [layers.Dense(12, name="label")(label), layers.Dense(24, name="noise")(noise)]

    def up(rows: list[Any]) -> Any:
        shaped = [layers.Reshape((3, 2, channels))(x) for x, channels in zip(rows, (2, 4), strict=True)]
        return layers.Conv2DTranspose(5, 2, name="up")(layers.Concatenate()(shaped))

    if decoder:
        rows = [layers.Input((12,)), layers.Input((24,))]
        model = keras.Model([noise, label], keras.Model(rows, up(rows), name="decoder")(maps))
        same(model, Conditional(), first=False, rename={"decoder/up": "up"})
    else:
        same(keras.Model([noise, label], up(maps)), Conditional(), first=False)


def test_a_map_with_one_channel_or_one_place_needs_no_order(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [
        layers.Dense(12, name="fc"),
        layers.Reshape((3, 4, 1)),
        layers.Conv2D(2, (3, 4), name="a"),
        layers.Flatten(),
    ]
    model = keras.Sequential([layers.Input((7,)), *steps, layers.Dense(2, name="last")])
    module = chain(
        ("fc", nn.Linear(7, 12)),
        ("", nn.Unflatten(1, (1, 3, 4))),
        ("a", nn.Conv2d(1, 2, (3, 4))),
        FLATTEN,
        ("last", nn.Linear(2, 2)),
    )
    assert "flattened" not in str(same(model, module))


def test_outputs_that_are_reshaped_and_used_as_they_are_too_are_refused(keras: Any, saved: Any, chain: Any) -> None:
    layers = keras.layers
    inputs = layers.Input((7,))
    row = layers.Dense(24, name="fc")(inputs)
    model = keras.Model(
        inputs, [layers.Conv2D(2, 2, name="a")(layers.Reshape((3, 2, 4))(row)), layers.Dense(2, name="b")(row)]
    )
    module = chain(("fc", nn.Linear(7, 24)), ("a", nn.Conv2d(4, 2, 2)), ("b", nn.Linear(24, 2)))
    with pytest.raises(bridge.BridgeError, match=r"fc gives 24 values for a map.*unflatten=\{'fc': \(3, 2, 4\)\}"):
        bridge.load(module, saved(model))
    for chosen in ((3, 2, 4), None):
        plan = bridge.load(module, saved(model), unflatten={"fc": chosen})
        assert plan.copied["fc/bias"].transform.maps == (((0, chosen),) if chosen else ())


def test_without_an_architecture_unflatten_says_what_outputs_become(keras: Any, same: Any, chain: Any) -> None:
    made, ours, values = DECODERS["to a picture"]
    inner, ours_inner = BETWEEN["normalisations between"]
    dense = keras.layers.Dense(values, name="fc")
    model = keras.Sequential([keras.layers.Input((7,)), dense, *inner(keras.layers), *made(keras.layers)])
    names = ("fc", "norm", "relu", "layer")
    module = chain(("fc", nn.Linear(7, values)), *ours_inner(values), *ours())
    same(model, module, weights_only=True, unflatten=dict.fromkeys(names, (2, 3, 4)))


def test_a_map_that_outputs_do_not_fill_is_refused(keras: Any, saved: Any, chain: Any) -> None:
    path = saved(keras.Sequential([keras.layers.Input((7,)), keras.layers.Dense(24, name="fc")]), weights_only=True)
    with pytest.raises(
        bridge.BridgeError, match=r"fc gives 24 values, not those of a \(5, 5, 5\) map\. Correct unflatten"
    ):
        bridge.load(chain(("fc", nn.Linear(7, 24))), path, unflatten={"fc": (5, 5, 5)})
