"""The maps that an architecture describes, and those that shapes alone tell."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import bridge
from bridge.flattening.flatten import maps_of
from bridge.layers.transform import Transform
from bridge.options import Options
from bridge.source import Source, from_arrays


def weights(**kernels: tuple[int, ...]) -> Source:
    """A weights-only file, from the shapes of the layers' first weights; `moving_mean` where there is one axis."""
    arrays: dict[str, np.ndarray] = {}
    for layer, shape in kernels.items():
        role = "moving_mean" if len(shape) == 1 else "embeddings" if layer.startswith("words") else "kernel"
        arrays[f"{layer.replace('__', '/')}/{role}"] = np.zeros(shape, np.float32)
        if layer.startswith("lstm"):
            arrays[f"{layer}/recurrent_kernel"] = np.zeros((shape[1] // 4, shape[1]), np.float32)
        elif len(shape) > 2:
            arrays[f"{layer.replace('__', '/')}/bias"] = np.zeros(
                shape[2:] if "query" in layer else shape[-1], np.float32
            )
    return from_arrays(arrays)


GUESSED: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, tuple[int | None, ...]]]] = {
    "two layers that take the same map": (
        {"a": (3, 3, 2, 5), "mean": (20, 3), "variance": (20, 3), "up": (3, 20)},
        {"mean": (2, 2, 5), "variance": (2, 2, 5)},
    ),
    "a layer behind one that gives as many values": (
        {"a": (3, 3, 2, 5), "b": (20, 20), "c": (20, 3)},
        {"b": (2, 2, 5)},
    ),
    "a recurrent layer behind a convolution": ({"a": (3, 2, 5), "lstm": (5, 40), "fc": (10, 3)}, {}),
    "steps of a convolution inside time": ({"a": (3, 2, 5), "lstm": (30, 40), "fc": (10, 3)}, {"lstm": (6, 5)}),
    "columns of a picture as steps": ({"a": (3, 3, 2, 5), "lstm": (20, 40)}, {"lstm": (None, None, 5)}),
    "an embedding behind a convolution": ({"a": (3, 2, 5), "words": (9, 4), "fc": (20, 3)}, {}),
    "convolutions of several widths side by side": (
        {"a": (3, 8, 5), "b": (4, 8, 5), "c": (5, 8, 5), "fc": (15, 2)},
        {},
    ),
    "convolutions side by side or one behind the other": (
        {"a": (3, 5, 5), "b": (4, 5, 5), "c": (5, 5, 5), "fc": (15, 2)},
        {"fc": ()},
    ),
    "pictures' convolutions one behind the other": (
        {"a": (3, 3, 5, 5), "b": (3, 3, 5, 5), "fc": (20, 2)},
        {"fc": (2, 2, 5)},
    ),
    "a normalisation that tells the channels of joined maps": (
        {"a": (3, 3, 2, 4), "b": (3, 3, 4, 3), "n": (7,), "c": (3, 3, 7, 3), "m": (10,), "fc": (40, 2)},
        {"fc": (2, 2, 10)},
    ),
    "the same, pooled": (
        {"a": (3, 3, 2, 4), "b": (3, 3, 4, 3), "n": (7,), "c": (3, 3, 7, 3), "m": (12,), "fc": (12, 2)},
        {},
    ),
    "joined maps whose channels nothing tells": (
        {"a": (3, 2, 4), "b": (3, 4, 3), "c": (3, 7, 3), "fc": (30, 2)},
        {"fc": ()},
    ),
    "joined maps that are pooled, as wide as those before": (
        {"a": (3, 3, 2, 4), "b": (3, 3, 4, 3), "c": (3, 3, 7, 4), "d": (3, 3, 7, 3), "fc": (7, 2)},
        {},
    ),
    "a layer of each place, then all places": ({"a": (3, 3, 2, 4), "m": (4, 3), "fc": (36, 2)}, {"fc": ()}),
    "two layers of each place, then all places": (
        {"a": (3, 3, 2, 4), "m": (4, 6), "n": (6, 3), "fc": (36, 2), "out": (2, 7)},
        {"fc": ()},
    ),
    "heads of one pooled map side by side": ({"a": (3, 3, 2, 4), "m": (4, 6), "n": (4, 6), "fc": (12, 2)}, {}),
    "pooled": ({"a": (3, 3, 2, 4), "m": (4, 6), "n": (6, 5), "fc": (5, 2)}, {}),
    "attention": ({"a": (3, 2, 5), "att__query": (5, 2, 4), "att__attention_output": (2, 4, 5), "fc": (20, 3)}, {}),
}


@pytest.mark.parametrize("kind", GUESSED)
def test_shapes_alone_tell(kind: str) -> None:
    kernels, expected = GUESSED[kind]
    assert {layer: flat.shape for layer, flat in maps_of(weights(**kernels)).inputs.items()} == expected


def described(model: Any) -> Source:
    """The architecture of a Keras model, without weights and without the shapes that Keras 3 says."""

    def unsaid(value: Any) -> Any:
        if isinstance(value, dict):
            if "keras_history" in value:
                return {"keras_history": value["keras_history"]}
            return {key: unsaid(each) for key, each in value.items()}
        return [unsaid(each) for each in value] if isinstance(value, list) else value

    return Source({}, format="", architecture=unsaid(json.loads(model.to_json())))


EDGES = ("ZeroPadding", "Cropping")
LAYERS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(
                (
                    *"Conv SeparableConv DepthwiseConv ConvTranspose MaxPooling".split(),
                    *EDGES,
                    "AveragePooling",
                    "UpSampling",
                )
            ),
            "sizes": st.tuples(*[st.integers(1, 4)] * 3),
            "strides": st.tuples(*[st.integers(1, 3)] * 3),
            "dilation": st.tuples(*[st.integers(1, 2)] * 3),
            "edges": st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3),
            "more": st.tuples(*[st.integers(0, 2)] * 3),
            "filters": st.integers(1, 4),
            "padding": st.sampled_from(["same", "valid"]),
            "choice": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=5,
)


def layer_of(layers: Any, rank: int, first: bool, given: Mapping[str, Any]) -> Any:
    """The layer that is described, or None where Keras has none."""
    kind, data_format = given["kind"], {"data_format": "channels_first" if first else "channels_last"}
    name = f"Conv{rank}DTranspose" if kind == "ConvTranspose" else f"{kind}{rank}D"
    made = getattr(layers, name, None)
    if made is None or (first and kind in ("SeparableConv", "DepthwiseConv", "ConvTranspose")):
        return None
    sizes, strides, dilation, edges, more = (
        given[key][:rank] for key in ("sizes", "strides", "dilation", "edges", "more")
    )
    padding = {"padding": given["padding"]}
    plain = {} if rank == 1 and first else data_format
    choice = given["choice"]
    if kind in EDGES:
        if rank == 1 and first:
            return None
        one = edges[0] if rank == 1 else edges
        return made((1, one, edges[0][0])[choice], **({} if rank == 1 and kind == "Cropping" else plain))
    if kind == "UpSampling":
        return None if rank == 1 and first else made(sizes[0] if rank == 1 else sizes, **({} if rank == 1 else plain))
    if kind.endswith("Pooling"):
        return made(sizes, (None, strides, strides[0])[choice], **padding, **data_format)
    if kind == "ConvTranspose":
        extra = {"output_padding": tuple(min(each, step - 1) for each, step in zip(more, strides, strict=True))}
        return made(given["filters"], sizes, strides=strides, **padding, **(extra if choice == 2 else {}))
    stretched = {"dilation_rate": dilation} if choice else {"strides": strides}
    if kind == "DepthwiseConv" or kind == "SeparableConv":
        stretched = {"dilation_rate": dilation[0]} if choice else {"strides": strides[0]}
    named = {"depth_multiplier": given["filters"]} if kind == "DepthwiseConv" else {"filters": given["filters"]}
    return made(kernel_size=sizes, **named, **padding, **stretched, **data_format)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rank=st.integers(1, 3), first=st.booleans(), sizes=st.tuples(*[st.integers(5, 9)] * 3), made=LAYERS)
def test_the_size_of_every_map_is_what_keras_says(
    rank: int, first: bool, sizes: tuple[int, ...], made: list[dict[str, Any]], keras: Any
) -> None:
    layers = keras.layers
    inputs = layers.Input((2, *sizes[:rank]) if first else (*sizes[:rank], 2))
    convolution = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1]
    x = convolution(3, 1, data_format="channels_first" if first else "channels_last")(inputs)
    for each in made:
        layer = layer_of(layers, rank, first, each)
        try:
            out = x if layer is None else layer(x)
        except (ValueError, RuntimeError):  # nothing would be left of the map
            break
        if 0 in out.shape:
            break
        x = out
    size = tuple(x.shape[1:])
    kept = maps_of(described(keras.Model(inputs, layers.Dense(1, name="fc")(layers.Flatten()(x))))).inputs.get("fc")
    moved = layers.Flatten(data_format="channels_first")(x)
    turned = maps_of(described(keras.Model(inputs, layers.Dense(1, name="fc")(moved)))).inputs.get("fc")
    flat, other = (turned, kept) if first else (kept, turned)
    last = (*size[1:], size[0]) if first else size
    if last[-1] != 1 and max(last[:-1]) > 1:
        assert flat is not None
        assert flat.shape == last
    else:
        assert flat is None
    assert other is None or other.mixed  # as PyTorch has it, or in no order that it has


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("strides", "dilation", "extra"), [(1, 1, None), (3, 1, None), (1, 2, None), (3, 1, 0), (3, 1, 2), (2, 1, 1)]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_size_that_a_transposed_convolution_gives_is_what_keras_says(
    rank: int, strides: int, dilation: int, extra: int | None, padding: str, keras: Any
) -> None:
    layers = keras.layers
    made = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)[rank - 1]
    x = inputs = layers.Input((*(4, 3, 2)[:rank], 2))
    for kernel in (2, 3):
        layer = made(3, kernel, strides=strides, padding=padding, dilation_rate=dilation, output_padding=extra)
        x = layers.Activation("relu")(layer(x))
    flat = maps_of(described(keras.Model(inputs, layers.Dense(1, name="fc")(layers.Flatten()(x))))).inputs["fc"]
    assert flat.shape == tuple(x.shape[1:])


OLD: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "Convolution1D": ("Convolution1D", {"filter_length": 3, "nb_filter": 5, "subsample_length": 2}, (9, 3), (4, 5)),
    "AtrousConvolution1D": (
        "AtrousConvolution1D",
        {"filter_length": 3, "nb_filter": 5, "atrous_rate": 2},
        (9, 3),
        (5, 5),
    ),
    "Convolution2D": (
        "Convolution2D",
        {"nb_row": 2, "nb_col": 3, "nb_filter": 5, "subsample": [1, 2]},
        (6, 7, 3),
        (5, 3, 5),
    ),
    "Convolution2D, same": (
        "Convolution2D",
        {"nb_row": 2, "nb_col": 3, "nb_filter": 5, "subsample": [1, 2], "border_mode": "same", "dim_ordering": "tf"},
        (6, 7, 3),
        (6, 4, 5),
    ),
    "Convolution2D, full": (
        "Convolution2D",
        {"nb_row": 2, "nb_col": 3, "nb_filter": 5, "border_mode": "full"},
        (6, 7, 3),
        (7, 9, 5),
    ),
    "Convolution3D": (
        "Convolution3D",
        {"kernel_dim1": 1, "kernel_dim2": 2, "kernel_dim3": 3, "nb_filter": 5, "subsample": [1, 1, 1]},
        (4, 4, 4, 2),
        (4, 3, 2, 5),
    ),
    "Deconvolution2D": (
        "Deconvolution2D",
        {"nb_row": 3, "nb_col": 3, "nb_filter": 5, "output_shape": [None, 9, 11, 5], "dim_ordering": "tf"},
        (4, 5, 3),
        (9, 11, 5),
    ),
    "MaxPooling1D": ("MaxPooling1D", {"pool_length": 2, "stride": 3, "border_mode": "valid"}, (9, 3), (3, 3)),
    "MaxPooling1D, without a stride": ("MaxPooling1D", {"pool_length": 2}, (9, 3), (4, 3)),
    "UpSampling1D": ("UpSampling1D", {"length": 2}, (4, 3), (8, 3)),
    "ZeroPadding2D": ("ZeroPadding2D", {"padding": [1, 2]}, (4, 5, 3), (6, 9, 3)),
    "ZeroPadding2D on four sides": ("ZeroPadding2D", {"padding": [1, 2, 0, 3]}, (4, 5, 3), (7, 8, 3)),
    "ZeroPadding1D": ("ZeroPadding1D", {"padding": 2}, (4, 3), (8, 3)),
    "Cropping2D": ("Cropping2D", {"cropping": [[1, 0], [0, 2]]}, (4, 5, 3), (3, 3, 3)),
}


@pytest.mark.parametrize("kind", OLD)
def test_layers_of_keras_1_give_maps_of_the_sizes_that_it_gave(kind: str) -> None:
    name, config, given_shape, shape = OLD[kind]
    assert old(given_shape, (name, config)).shape == shape


def old(given_shape: tuple[int, ...], *layers: tuple[str, dict[str, Any]]) -> Any:
    """The map in front of a Dense layer of a Sequential model, as Keras 1 described it."""
    rank, first = len(given_shape) - 1, ("Convolution1D", {"filter_length": 1, "nb_filter": given_shape[-1]})
    window = {"nb_row": 1, "nb_col": 1} if rank == 2 else {"kernel_dim1": 1, "kernel_dim2": 1, "kernel_dim3": 1}
    if rank > 1:
        first = (f"Convolution{rank}D", {**window, "nb_filter": given_shape[-1]})
    entries = [first, *layers, ("Flatten", {}), ("Dense", {"output_dim": 2, "name": "fc"})]
    described = [
        {"class_name": kind, "config": {"name": f"layer_{at}", **config}} for at, (kind, config) in enumerate(entries)
    ]
    described[0]["config"]["batch_input_shape"] = [None, *given_shape]
    source = Source({}, format="", architecture={"class_name": "Sequential", "config": described})
    return maps_of(source).inputs["fc"]


def test_keras_1_merges_by_mode() -> None:
    nodes: Callable[..., list[Any]] = lambda *names: [[[name, 0, 0] for name in names]]  # noqa: E731
    window = {"nb_row": 1, "nb_col": 1, "nb_filter": 5}
    for mode, channels in (("concat", 10), ("sum", 5)):
        entries = [
            {
                "class_name": "InputLayer",
                "name": "in",
                "config": {"batch_input_shape": [None, 4, 3, 2]},
                "inbound_nodes": [],
            },
            {"class_name": "Convolution2D", "name": "a", "config": window, "inbound_nodes": nodes("in")},
            {"class_name": "Convolution2D", "name": "b", "config": window, "inbound_nodes": nodes("in")},
            {
                "class_name": "Merge",
                "name": "m",
                "config": {"mode": mode, "concat_axis": -1},
                "inbound_nodes": nodes("a", "b"),
            },
            {"class_name": "Flatten", "name": "f", "config": {}, "inbound_nodes": nodes("m")},
            {"class_name": "Dense", "name": "fc", "config": {"output_dim": 2}, "inbound_nodes": nodes("f")},
        ]
        config = {"layers": entries, "input_layers": [["in", 0, 0]], "output_layers": [["fc", 0, 0]]}
        source = Source({}, format="", architecture={"class_name": "Model", "config": config})
        assert maps_of(source).inputs["fc"].shape == (4, 3, channels)


def test_a_dense_layer_over_a_map_has_its_channels_where_its_place_has_them(keras: Any) -> None:
    """A convolution over one position leaves them first; a Linear needs them last, and they may be moved back."""
    layers = keras.layers
    steps = [layers.Conv2D(5, 2), layers.Dense(7, name="a"), layers.Flatten(), layers.Dense(2, name="fc")]
    source = described(keras.Sequential([layers.Input((4, 5, 3)), *steps]))
    assert maps_of(source, {"a": nn.Conv2d(5, 7, 1)}).inputs["fc"].shape == (3, 4, 7)
    for parts in ({}, {"a": nn.Linear(5, 7)}):
        assert maps_of(source, parts).inputs["fc"].mixed


def test_behind_rows_a_dense_layer_of_each_row_keeps_them(keras: Any) -> None:
    layers = keras.layers
    steps = [layers.LSTM(5, return_sequences=True), layers.Dense(7, name="a"), layers.Flatten(), layers.Dense(2)]
    assert maps_of(described(keras.Sequential([layers.Input((4, 3)), *steps])), {"a": nn.Linear(5, 7)}).inputs == {}


def test_a_map_that_is_moved_for_a_normalisation_of_its_channels_may_be_moved_back(keras: Any) -> None:
    layers = keras.layers
    steps = [
        layers.Dense(5, name="a"),
        layers.BatchNormalization(name="b"),
        layers.Flatten(),
        layers.Dense(2, name="fc"),
    ]
    source = described(keras.Sequential([layers.Input((4, 3, 2)), *steps]))
    parts = {"a": nn.Linear(2, 5), "b": nn.BatchNorm2d(5)}
    assert maps_of(source, parts).inputs["fc"].mixed


def test_outputs_reshaped_to_channels_first_are_as_pytorch_views_them(keras: Any) -> None:
    layers = keras.layers
    up = layers.Conv2DTranspose(2, 2, data_format="channels_first")
    model = keras.Sequential([layers.Input((7,)), layers.Dense(24, name="fc"), layers.Reshape((4, 2, 3)), up])
    assert maps_of(described(model)).outputs == {}


JUNK = st.sampled_from([None, -1, 0, 3, 10**30, 1.5, True, "x", "channels_first", [], [1, 2], [[1, 2], [0, 1]], {}])


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could be damaged."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places_in(each, (*path, key)))]


@pytest.fixture(scope="module")
def architecture() -> str:
    """A model with a layer of most kinds."""
    keras = pytest.importorskip("keras")
    layers, timed = keras.layers, keras.layers.TimeDistributed
    x = inputs = layers.Input((6, 5, 4, 2))
    x = timed(
        keras.Sequential([layers.Input((5, 4, 2)), layers.Conv2D(3, 2), layers.Flatten()], name="net"), name="td"
    )(x)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(layers.Conv1D(3, 2)(x))
    x = layers.Dense(24)(layers.Flatten()(layers.Concatenate()([x, layers.Permute((1, 2))(x)])))
    x = layers.Reshape((2, 3, 4))(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(3, 2, output_padding=0)(layers.ZeroPadding2D(1)(layers.UpSampling2D()(x)))
    x = layers.Cropping2D(1)(layers.Multiply()([x, layers.MaxPooling2D(1)(x)]))
    return str(keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x))).to_json())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_configuration_that_is_damaged_is_followed_or_refused(data: st.DataObject, architecture: str) -> None:
    model = json.loads(architecture)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([place for place in places_in(model) if place]))
        owner = model
        for key in place[:-1]:
            owner = owner[key]
        owner[place[-1]] = deepcopy(data.draw(JUNK))
    with suppress(bridge.BridgeError):
        maps = maps_of(Source({}, format="", architecture=model))
        for layer in (*maps.inputs, *maps.outputs):
            maps.unfolded(Transform((1, 0)), Options(), layer, "kernel", (24, 24), (24, 24))


def test_models_inside_models_that_are_used_again_and_again_are_not_followed_for_ever() -> None:
    model: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "m0", "layers": []}}
    for depth in range(1, 30):
        inner = {**model, "name": f"m{depth - 1}", "inbound_nodes": [[["in", 0, 0]], [["in", 0, 0]]]}
        entry = {"class_name": "InputLayer", "name": "in", "config": {"batch_shape": [None, 4]}, "inbound_nodes": []}
        config = {"name": f"m{depth}", "layers": [entry, inner], "input_layers": [["in", 0, 0]], "output_layers": []}
        model = {"class_name": "Functional", "config": config}
    with pytest.raises(bridge.BridgeError, match="calls its layers more than"):
        maps_of(Source({}, format="", architecture=model))


@pytest.mark.parametrize("kind", ["rows of rows", "axes", "sums"])
def test_values_of_more_layers_or_axes_than_any_model_has_are_refused(kind: str) -> None:
    start = {"class_name": "InputLayer", "name": "x", "config": {"batch_shape": [None, 4]}, "inbound_nodes": []}
    entries: list[dict[str, Any]] = [start]

    def add(name: str, class_name: str, config: dict[str, Any], *given: str) -> str:
        nodes = [[[each, 0, 0] for each in given]]
        entries.append({"class_name": class_name, "name": name, "config": config, "inbound_nodes": nodes})
        return name

    end = "x"
    for at in range(2000):
        if kind == "sums":
            end = add(f"sum{at}", "Add", {}, end, add(f"dense{at}", "Dense", {"units": 4}, "x"))
        else:
            end = add(f"row{at}", "RepeatVector", {"n": 2}, end)
            end = add(f"flat{at}", "Flatten", {}, end) if kind == "rows of rows" else end
    add("fc", "Dense", {"units": 2}, end)
    source = Source({}, format="", architecture={"class_name": "Functional", "config": {"layers": entries}})
    if kind == "rows of rows":
        assert maps_of(source).inputs == {}
    else:
        with pytest.raises(bridge.BridgeError, match="values have more than 32 axes"):
            maps_of(source)
