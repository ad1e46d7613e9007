"""Names that Keras gives by itself agree between sessions and versions: what counts is the rank in the model."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.naming import names
from bridge.naming.auto_names import in_order

# What each class with weights is called automatically: today, by Keras 2 and tf.keras, by Keras 1.
CLASSES = {
    "dense": ("dense", "dense"),
    "embedding": ("embedding", "embedding"),
    "conv1d": ("conv1d", "convolution1d"),
    "conv2d": ("conv2d", "convolution2d"),
    "conv3d": ("conv3d", "convolution3d"),
    "conv2d_transpose": ("conv2d_transpose", "deconvolution2d"),
    "conv3d_transpose": ("conv3d_transpose", "deconvolution3d"),
    "depthwise_conv2d": ("depthwise_conv2d", None),
    "separable_conv1d": ("separable_conv1d", None),
    "separable_conv2d": ("separable_conv2d", "separableconvolution2d"),
    "batch_normalization": ("batch_normalization", "batchnormalization"),
    "p_re_lu": ("p_re_lu", "prelu"),
    "simple_rnn": ("simple_rnn", "simplernn"),
    "lstm": ("cu_dnnlstm", "lstm"),
    "gru": ("cu_dnngru", "gru"),
    "conv_lstm2d": ("conv_lst_m2d", "convlstm2d"),
    "bidirectional": ("bidirectional", "bidirectional"),
    "time_distributed": ("time_distributed", "timedistributed"),
    "locally_connected2d": ("locally_connected2d", "locallyconnected2d"),
    "functional": ("model", "model"),
    "sequential": ("sequential", "sequential"),
    "highway": (None, "highway"),
    "maxout_dense": (None, "maxoutdense"),
    "time_distributed_dense": (None, "timedistributeddense"),
}
OTHERS = {
    "conv2d": ("atrousconvolution2d",),
    "gru": ("unified_gru",),
    "lstm": ("unified_lstm",),
    "batch_normalization": ("batch_normalization_v1", "batch_normalization_v2"),
}


def numbered(prefix: str, number: int) -> str:
    return f"{prefix}_{number}" if number else prefix


@pytest.mark.parametrize("today", CLASSES)
def test_a_class_has_one_name_whichever_version_wrote_it(today: str) -> None:
    spellings = {today, *CLASSES[today], *OTHERS.get(today, ())} - {None}
    for spelling in spellings:
        for number in ("", "_1", "_16", "_123"):
            assert names.auto_prefix(f"{spelling}{number}") == today
            assert names.canonical([f"{spelling}{number}"]) == {f"{spelling}{number}": today}


def test_every_layer_of_keras_with_weights_is_known_by_its_automatic_name(keras: Any) -> None:
    layers, image = keras.layers, keras.Input((4,))
    made = [
        *(layers.Dense(1), layers.EinsumDense("ab,bc->ac", 1), layers.Embedding(2, 2)),
        *(getattr(layers, f"Conv{n}D{kind}")(1, 1) for n in (1, 2, 3) for kind in ("", "Transpose")),
        *(getattr(layers, name)(1) for name in ("DepthwiseConv1D", "DepthwiseConv2D")),
        *(getattr(layers, name)(1, 1) for name in ("SeparableConv1D", "SeparableConv2D")),
        *(getattr(layers, name)(1, 1) for name in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")),
        *(getattr(layers, f"{name}Normalization")() for name in ("Batch", "Layer", "RMS", "Group", "")),
        layers.SpectralNormalization(layers.Dense(1)),
        *(getattr(layers, name)(1) for name in ("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell")),
        *(layers.RNN(layers.GRUCell(1)), layers.StackedRNNCells([layers.GRUCell(1)])),
        *(layers.PReLU(), layers.Attention(use_scale=True), layers.AdditiveAttention()),
        *(layers.MultiHeadAttention(1, 1), layers.GroupQueryAttention(1, 1, 1)),
        *(layers.TimeDistributed(layers.Dense(1)), layers.Bidirectional(layers.LSTM(1))),
        *(keras.Sequential(), keras.Model(image, layers.Dense(1)(image))),
    ]
    bidirectional = next(layer for layer in made if layer.name == "bidirectional")
    for layer in (*made, bidirectional.forward_layer, bidirectional.backward_layer):
        assert names.auto_prefix(layer.name) == re.sub(r"_\d+$", "", layer.name)
    assert names.auto_prefix(bidirectional.forward_layer.name) == "forward_lstm"


@pytest.mark.parametrize(
    "name", "block1_conv1 conv2d_a my_conv2d conv_2d conv2d_1_2 conv2d__1 encoder fc1 dense1 relu conv2d_ ''".split()
)
def test_a_name_of_the_users_own_stays(name: str) -> None:
    assert names.auto_prefix(name) is None
    assert names.canonical([name, "conv2d_7"]) == {name: name, "conv2d_7": "conv2d"}


@pytest.mark.parametrize("name", ["input_1", "input_layer_2", "max_pooling2d_3", "activation_9", "flatten", "add_2"])
def test_a_layer_without_weights_is_counted_nowhere(name: str) -> None:
    assert names.auto_prefix(name) is None


def test_ranks_go_by_place_and_not_by_number() -> None:
    """As a real file has them: numbers are neither dense nor rising, and sort as text in yet another way."""
    given = "conv2d_1 conv2d_2 batch_normalization_14 conv2d_10 conv2d_9 batch_normalization_3 dense_2 dense_1".split()
    assert list(names.canonical(given).values()) == (
        "conv2d conv2d_1 batch_normalization conv2d_2 conv2d_3 batch_normalization_1 dense dense_1".split()
    )


def test_each_model_within_a_model_counts_for_itself() -> None:
    given = "model_4/conv2d_9 model_4/conv2d_10 sequential_2/conv2d_11 model_5/model_3/dense_8 conv2d_12".split()
    assert list(names.canonical(given).values()) == (
        "functional/conv2d functional/conv2d_1 sequential/conv2d functional_1/functional/dense conv2d".split()
    )
    both = "bidirectional_2/forward_lstm_2 bidirectional_2/backward_lstm_2 bidirectional_5/forward_lstm_5".split()
    assert list(names.canonical(both).values()) == (
        "bidirectional/forward_lstm bidirectional/backward_lstm bidirectional_1/forward_lstm".split()
    )


def test_one_model_built_twice_in_a_session_has_the_same_canonical_names(keras: Any) -> None:
    def build() -> list[str]:
        layers = keras.layers
        inside = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)])
        model = keras.Sequential([layers.Input((4,)), layers.Dense(4), inside, layers.Dense(5, name="mine")])
        paths = []
        for layer in model.layers:
            paths += [f"{layer.name}/{inner.name}" for inner in getattr(layer, "layers", ())] or [layer.name]
        return paths

    first, second = build(), build()
    assert not set(first) & (set(second) - {"mine"})
    assert list(names.canonical(first).values()) == list(names.canonical(second).values())


# A layer of a model: its class and the model it is in, or a name of the user's own.
architectures = st.lists(
    st.tuples(st.sampled_from([*CLASSES, "mine"]), st.sampled_from(["", "", "functional", "sequential", "own"])),
    min_size=1,
    max_size=25,
)
sessions = st.dictionaries(st.sampled_from(list(CLASSES)), st.integers(0, 120), max_size=len(CLASSES))


def written(architecture: list[tuple[str, str]], version: int, session: dict[str, int]) -> list[str]:
    """The layers' paths as a version of Keras numbers them, after so many layers of each class before."""
    counts = dict(session)
    inside: dict[str, str] = {}

    def name(kind: str) -> str:
        spelling = kind if version == 3 else CLASSES[kind][2 - version] or kind
        count = counts.get(kind, 0)
        counts[kind] = count + 1
        return numbered(spelling, count + (1 if version < 3 else 0))

    paths = []
    for index, (kind, model) in enumerate(architecture):
        if model and model not in inside:
            inside[model] = model if model == "own" else name(model)
        own = f"mine{index}" if kind == "mine" else name(kind)
        paths.append(f"{inside[model]}/{own}" if model else own)
    return paths


@settings(deadline=None, max_examples=150)
@given(
    architecture=architectures,
    versions=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    here=sessions,
    there=sessions,
)
def test_two_numberings_of_one_architecture_have_the_same_canonical_names(
    architecture: list[tuple[str, str]], versions: tuple[int, int], here: dict[str, int], there: dict[str, int]
) -> None:
    first, second = written(architecture, versions[0], here), written(architecture, versions[1], there)
    canonical = names.canonical(first)
    assert list(canonical) == first
    assert list(canonical.values()) == list(names.canonical(second).values())
    assert len(set(canonical.values())) == len(set(first))
    assert names.canonical(canonical.values()) == {name: name for name in canonical.values()}
    assert names.aligned(first, second) == dict(zip(first, second, strict=True))


@settings(deadline=None, max_examples=50)
@given(kinds=st.lists(st.sampled_from([kind for kind in CLASSES if CLASSES[kind][0]]), min_size=1, max_size=30))
def test_a_fresh_keras_3_session_writes_canonical_names(kinds: list[str]) -> None:
    fresh = written([(kind, "") for kind in kinds], 3, {})
    assert names.canonical(fresh) == {name: name for name in fresh}


def test_names_that_both_sides_have_are_never_counted_anew() -> None:
    same = ["dense_4", "dense_3"]
    assert names.aligned(same, same[::-1]) == {"dense_4": "dense_4", "dense_3": "dense_3"}
    inside = ["model_1/dense_4", "model_1/dense_3"]
    assert names.aligned(inside, ["model_1/dense_3", "model_1/dense_4"]) == {name: name for name in inside}
    assert names.aligned(inside, ["functional/dense_3", "functional/dense_4"]) == {
        name: name.replace("model_1", "functional") for name in inside
    }


def test_another_number_of_layers_is_another_model() -> None:
    given = ["dense_4", "dense_5", "conv2d_8", "other/conv2d_1"]
    assert names.aligned(given, ["dense_1", "conv2d", "other/conv2d"]) == {
        "dense_4": "dense_4",
        "dense_5": "dense_5",
        "conv2d_8": "conv2d",
        "other/conv2d_1": "other/conv2d",
    }


@pytest.mark.parametrize("layer", ["", "/a", "a//dense_2", "a/", "/" * 1000, "dense_1/" * 20_000 + "dense_1"])
def test_any_text_is_a_name(layer: str) -> None:
    assert list(names.canonical([layer, "dense_5"])) == [layer, "dense_5"]
    assert names.aligned([layer], [layer]) == {layer: layer}


def test_layers_come_in_the_order_of_keras_s_numbers_and_all_others_where_they_were() -> None:
    given = ["conv2d_1", "stem", "conv2d_3", "dense", "conv2d_2", "block/conv2d_5", "block/conv2d_4", "head", "conv2d"]
    expected = [
        "conv2d",
        "stem",
        "conv2d_1",
        "dense",
        "conv2d_2",
        "block/conv2d_4",
        "block/conv2d_5",
        "head",
        "conv2d_3",
    ]
    assert in_order(given) == expected
