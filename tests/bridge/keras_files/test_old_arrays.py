"""Arrays in every order that Keras 0, 1 and 2 and Theano stored them in, brought to that of Keras 3.

Here they are made by hand; test_old_layers.py and test_old_keras.py read files that old Keras really wrote.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import bridge
from bridge.keras_files import old_arrays
from bridge.keras_files.spelling import KERAS_1_ROLES
from bridge.source import Stored, in_memory

Arrays = Mapping[str, np.ndarray]
Draw = Callable[..., np.ndarray]


@pytest.fixture
def stored_of() -> Callable[[Arrays], dict[str, Stored]]:
    return lambda arrays: {key: in_memory(key, array) for key, array in arrays.items()}


def vgg(draw: Draw) -> dict[str, np.ndarray]:
    """A small network as a file of channels last holds it, on maps of 4 x 4 that become 2 x 2."""
    return {
        "block1_conv1/kernel": draw(3, 3, 3, 4, seed=1),
        "block1_conv1/bias": draw(4, seed=2),
        "block1_conv2/kernel": draw(3, 3, 4, 4, seed=3),  # which tells nothing by itself
        "block1_conv2/bias": draw(4, seed=4),
        "fc1/kernel": draw(16, 5, seed=5),
        "fc1/bias": draw(5, seed=6),
    }


def spelled_out(arrays: Arrays, ordering: str, kernels: str) -> dict[str, np.ndarray]:
    """The same as it would be stored with this ordering, by this backend."""
    found = {}
    for key, array in arrays.items():
        if array.ndim == 4:
            array = array[::-1, ::-1] if kernels == "th" else array
            array = array.transpose(3, 2, 0, 1) if ordering == "th" else array
        elif key == "fc1/kernel" and ordering == "th":
            array = array.reshape(2, 2, 4, 5).transpose(2, 0, 1, 3).reshape(16, 5)
        found[key] = array
    return found


@pytest.mark.parametrize("kernels", ["th", "tf"])
@pytest.mark.parametrize("ordering", ["th", "tf"])
@pytest.mark.parametrize("version", ["1", "1.2.2", "0"])
def test_all_four_kinds_of_public_vgg_files_hold_the_same_weights(
    version: str, ordering: str, kernels: str, numbers: Draw, stored_of: Any
) -> None:
    expected = vgg(numbers)
    stored = stored_of(spelled_out(expected, ordering, kernels))
    modern = old_arrays.modern(stored, version=version, backend=None, kinds={}, kernels=kernels)
    assert modern.undecided is None
    assert list(modern.stored) == list(expected)
    for key, array in expected.items():
        fetched = modern.stored[key].fetch()
        np.testing.assert_array_equal(fetched, array, err_msg=key)
        assert modern.stored[key].shape == fetched.shape
        assert fetched.flags.c_contiguous
    assert modern.flattened == ({"fc1": (2, 2, 4)} if ordering == "th" else {})


def test_what_was_done_is_said(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of(spelled_out(vgg(numbers), "th", "th"))
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="th")
    assert modern.notes == (
        "Its kernels have their channels first (dim_ordering 'th'): they are given with channels last.",
        "Theano wrote it: its kernels are rotated by 180 degrees, as all but Theano compute with them.",
        "fc1 stands behind a Flatten of channels first: its rows are given in the order of a map (2, 2, 4), "
        "taken to be square.",
    )
    assert modern.stored["block1_conv1/kernel"].how == "channels first -> last, rotated by 180 degrees"
    assert modern.stored["fc1/kernel"].how == "rows (4, 2, 2) -> (2, 2, 4)"
    assert modern.stored["block1_conv1/bias"].how == ""


def test_nothing_is_read_before_it_is_asked_for(numbers: Draw) -> None:
    def never() -> np.ndarray:
        raise AssertionError("fetched")

    arrays = spelled_out(vgg(numbers), "th", "th")
    stored = {key: Stored(array.shape, "float32", never) for key, array in arrays.items()}
    modern = old_arrays.modern(stored, version="0", backend=None, kinds={}, kernels="th")
    with pytest.raises(AssertionError, match="fetched"):
        modern.stored["fc1/kernel"].fetch()


def test_channels_first_without_a_word_of_who_wrote_them_decide_nothing(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of(spelled_out(vgg(numbers), "th", "th"))
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    assert modern.undecided == (
        "the file does not say whether Theano wrote it: read it with kernels='th' (rotated by 180 degrees, as "
        "Theano's need to be) or kernels='tf' (taken as they are)."
    )


def test_kernels_of_one_place_have_nothing_to_decide(numbers: Draw, stored_of: Any) -> None:
    stored = stored_of({"conv/kernel": numbers(5, 3, 1, 1), "conv/bias": numbers(5)})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    assert modern.undecided is None
    assert modern.stored["conv/kernel"].shape == (1, 1, 3, 5)


def test_a_map_that_is_not_square_is_asked_for(numbers: Draw, stored_of: Any) -> None:
    kernel, dense = numbers(4, 3, 3, 3), numbers(2 * 3 * 4, 5)
    stored = stored_of({"conv/kernel": kernel, "conv/bias": numbers(4), "fc1/kernel": dense, "fc1/bias": numbers(5)})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf")
    assert modern.undecided == (
        "fc1 takes 24 values of a map with its channels first, and the file does not say of which: read it with "
        "flatten={'fc1': (height, width, channels)}."
    )
    said = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": (2, 3, 4)})
    assert said.undecided is None
    rows = dense.reshape(4, 2, 3, 5).transpose(1, 2, 0, 3).reshape(24, 5)
    np.testing.assert_array_equal(said.stored["fc1/kernel"].fetch(), rows)
    none = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": None})
    np.testing.assert_array_equal(none.stored["fc1/kernel"].fetch(), dense)
    with pytest.raises(bridge.BridgeError, match=r"fc1 takes 24 values, not those of a \(2, 2, 4\) map"):
        old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf", flatten={"fc1": (2, 2, 4)})


def test_a_normalisation_behind_the_flatten_has_its_values_in_the_same_order(numbers: Draw, stored_of: Any) -> None:
    mean = numbers(16)
    stored = stored_of(
        {
            "conv/kernel": numbers(4, 3, 3, 3),
            "conv/bias": numbers(4),
            **{f"bn/{role}": mean for role in ("gamma", "beta", "moving_mean", "moving_variance")},
            "fc1/kernel": numbers(16, 5),
            "fc1/bias": numbers(5),
        }
    )
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={}, kernels="tf")
    assert modern.flattened == {"bn": (2, 2, 4), "fc1": (2, 2, 4)}
    np.testing.assert_array_equal(modern.stored["bn/beta"].fetch(), mean.reshape(4, 4).T.reshape(16))


@pytest.mark.parametrize(
    ("shape", "bias", "expected"),
    [
        ((64, 3, 3, 3), None, (3, 3, 3, 64)),  # a window of 64 x 3 is none
        ((3, 3, 64, 64), 64, (3, 3, 64, 64)),
        ((128, 64, 1, 1), None, (1, 1, 64, 128)),
        ((5, 4, 3, 3), 5, (3, 3, 4, 5)),
        ((3, 3, 5, 3), 3, (3, 3, 5, 3)),
        ((8, 2, 3, 3, 3), 8, (3, 3, 3, 2, 8)),
    ],
)
def test_shapes_tell_the_order_of_axes(
    shape: tuple[int, ...], bias: int | None, expected: tuple[int, ...], numbers: Draw, stored_of: Any
) -> None:
    arrays = {"conv/kernel": numbers(*shape)} | ({"conv/bias": numbers(bias)} if bias else {})
    modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf")
    assert modern.stored["conv/kernel"].shape == expected
    assert not any("may have its channels" in note for note in modern.notes)


def test_the_layers_that_tell_decide_for_those_that_do_not(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 3, 3, 3, seed=7)
    known = {"known/kernel": numbers(5, 3, 2, 3), "known/bias": numbers(5)}
    arrays = {"doubtful/kernel": kernel, "doubtful/bias": numbers(3)}
    both = old_arrays.modern(stored_of(arrays | known), version="1", backend=None, kinds={}, kernels="tf")
    np.testing.assert_array_equal(both.stored["doubtful/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))
    alone = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf")
    np.testing.assert_array_equal(alone.stored["doubtful/kernel"].fetch(), kernel)
    assert alone.notes == (
        "doubtful's kernel (3, 3, 3, 3) may have its channels last or first: taken as last, dim_ordering='tf'.",
    )
    said = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="tf", dim_ordering="th")
    np.testing.assert_array_equal(said.stored["doubtful/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dim_ordering": "tf"}, r"dim_ordering is not 'tf' but 'th': first has the kernel \(5, 3, 2, 3\) and 5 biases"),
    ({"dim_ordering": "first"}, r"dim_ordering='first' is neither 'th' nor 'tf'"),
    ({"kernels": "theano"}, r"kernels='theano' is neither 'th' nor 'tf'"),
    ({"dim_ordering": "th", "version": "2.2.4"}, r"dim_ordering is for files of Keras 0 and 1"),
    (
        {"architecture": {"config": [{"config": {"dim_ordering": "tf"}}]}},
        r"dim_ordering is 'tf' \(its configuration says so\) and 'th' \(first has the kernel",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_options_that_contradict_the_file_are_refused(
    options: dict[str, Any], message: str, numbers: Draw, stored_of: Any
) -> None:
    stored = stored_of({"first/kernel": numbers(5, 3, 2, 3), "first/bias": numbers(5)})
    with pytest.raises(bridge.BridgeError, match=message):
        old_arrays.modern(stored, **{"version": "1", "backend": None, "kinds": {}} | options)


def test_layers_that_contradict_each_other_are_refused(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "a/kernel": numbers(5, 3, 2, 3),
        "a/bias": numbers(5),
        "b/kernel": numbers(3, 3, 2, 6),
        "b/bias": numbers(6),
    }
    message = (
        r"dim_ordering is 'tf' \(b has the kernel \(3, 3, 2, 6\) and 6 biases\) and 'th' \(a has the kernel "
        r"\(5, 3, 2, 3\) and 5 biases\) in one\. Get the file again\."
    )
    with pytest.raises(bridge.BridgeError, match=message):
        old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={})


def test_the_configuration_says_the_order_of_axes(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 3, 3, 3)
    entry = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": {"config": {"dim_ordering": "th"}}}}
    modern = old_arrays.modern(
        stored_of({"td/kernel": kernel, "td/bias": numbers(3)}),
        version="1.2.2",
        backend=None,
        kinds={"td": "TimeDistributed"},
        kernels="tf",
        architecture={"class_name": "Sequential", "config": [entry]},
    )
    np.testing.assert_array_equal(modern.stored["td/kernel"].fetch(), kernel.transpose(2, 3, 1, 0))


def test_a_layer_over_time_is_told_by_what_it_holds(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 1, 2, 4)
    layer = {"class_name": "Convolution1D", "config": {"name": "inner"}}
    entry = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": layer}}
    modern = old_arrays.modern(
        stored_of({"td/kernel": kernel, "td/bias": numbers(4)}),
        version="1.2.2",
        backend=None,
        kinds={"td": "TimeDistributed"},
        architecture={"class_name": "Sequential", "config": [entry]},
    )
    np.testing.assert_array_equal(modern.stored["td/kernel"].fetch(), kernel[:, 0])
    assert modern.kinds == {"td": "TimeDistributed"}


@pytest.mark.parametrize("named", ["convolution1d_3", "line"])
def test_both_forms_of_conv1d_are_one(named: str, numbers: Draw, stored_of: Any) -> None:
    kernel, bias = numbers(3, 2, 4), numbers(4)
    newer = {f"{named}/kernel": kernel[:, None], f"{named}/bias": bias}
    oldest = {f"{named}/kernel": kernel.transpose(2, 1, 0)[..., None], f"{named}/bias": bias}
    for arrays, known in ((newer, named != "line"), (oldest, True)):
        modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={})
        assert modern.kinds == ({named: "Conv1D"} if known else {})
        stored = modern.stored if known else old_arrays.told(modern.stored, {named: "Conv1D"})
        np.testing.assert_array_equal(stored[f"{named}/kernel"].fetch(), kernel)


def test_a_conv1d_keeps_its_axes_among_channels_first(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 1, 2, 4)
    arrays = {"c/kernel": numbers(5, 3, 2, 3), "c/bias": numbers(5), "line/kernel": kernel, "line/bias": numbers(4)}
    modern = old_arrays.modern(
        stored_of(arrays), version="1.2.2", backend=None, kinds={"c": "Conv2D", "line": "Conv1D"}, kernels="th"
    )
    np.testing.assert_array_equal(modern.stored["line/kernel"].fetch(), kernel[::-1, 0])


def test_only_the_module_may_say_what_a_layer_is(numbers: Draw, stored_of: Any) -> None:
    kernel, words = numbers(2, 3, 4, 5), numbers(9, 4)
    stored = stored_of({"up/kernel": kernel, "up/bias": numbers(5), "words/kernel": words})
    modern = old_arrays.modern(stored, version="1", backend=None, kinds={})
    told = old_arrays.told(modern.stored, {"up": "Conv2DTranspose", "words": "Embedding"})
    np.testing.assert_array_equal(told["up/kernel"].fetch(), kernel.transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(told["words/embeddings"].fetch(), words)
    assert list(told) == ["up/kernel", "up/bias", "words/embeddings"]


@pytest.mark.parametrize("version", ["1", "2.1.6"])
def test_a_deconvolution_is_told_by_its_own_name(version: str, numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(2, 3, 4, 5)
    arrays = {"deconvolution2d_1/kernel": kernel, "deconvolution2d_1/bias": numbers(5 if version == "1" else 4)}
    modern = old_arrays.modern(stored_of(arrays), version=version, backend=None, kinds={})
    expected = kernel.transpose(0, 1, 3, 2) if version == "1" else kernel
    np.testing.assert_array_equal(modern.stored["deconvolution2d_1/kernel"].fetch(), expected)
    assert modern.kinds == {"deconvolution2d_1": "Conv2DTranspose"}


def test_theano_turns_no_kernel_without_a_window(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "conv/kernel": numbers(3, 2, 4, 5),
        "line/kernel": numbers(3, 4, 5),
        "local/kernel": numbers(6, 4, 5),
        "local/bias": numbers(6, 5),
        "depth/depthwise_kernel": numbers(3, 2, 4, 2),
        "sep/depthwise_kernel": numbers(3, 2, 4, 2),
        "sep/pointwise_kernel": numbers(1, 1, 8, 5),
        "lstm/kernel": numbers(3, 3, 2, 12),
        "lstm/recurrent_kernel": numbers(3, 3, 3, 12),
        "lstm/bias": numbers(12),
        "gru/kernel": numbers(4, 9),
        "gru/recurrent_kernel": numbers(3, 9),
        "gru/bias": numbers(9),
    }
    modern = old_arrays.modern(stored_of(arrays), version="2.3.1", backend="theano", kinds={})
    turned = {key for key, tensor in modern.stored.items() if tensor.how == "rotated by 180 degrees"}
    assert turned == {"conv/kernel", "line/kernel", "lstm/kernel", "lstm/recurrent_kernel"}
    np.testing.assert_array_equal(modern.stored["conv/kernel"].fetch(), arrays["conv/kernel"][::-1, ::-1])
    np.testing.assert_array_equal(modern.stored["line/kernel"].fetch(), arrays["line/kernel"][::-1])
    assert "depth/kernel" in modern.stored
    assert modern.kinds == {"depth": "DepthwiseConv2D", "sep": "SeparableConv2D", "gru": "GRU"}


def test_the_word_of_the_user_goes_before_the_backend(numbers: Draw, stored_of: Any) -> None:
    kernel = numbers(3, 2, 4, 5)
    for backend, kernels, turned in (("theano", "tf", False), ("tensorflow", "th", True), ("tensorflow", None, False)):
        modern = old_arrays.modern(
            stored_of({"conv/kernel": kernel}), version="2.1.6", backend=backend, kinds={}, kernels=kernels
        )
        expected = kernel[::-1, ::-1] if turned else kernel
        np.testing.assert_array_equal(modern.stored["conv/kernel"].fetch(), expected)


def test_gates_of_a_convolutional_lstm_are_put_together_channels_last(numbers: Draw, stored_of: Any) -> None:
    gates = {
        f"lstm/{letter}_{gate}": numbers(*shape, seed=ord(gate) + ord(letter))
        for gate in "icfo"
        for letter, shape in (("W", (4, 2, 3, 3)), ("U", (4, 4, 3, 3)), ("b", (4,)))
    }
    modern = old_arrays.modern(stored_of(gates), version="1", backend=None, kinds={}, kernels="th")
    kernel = np.concatenate([gates[f"lstm/W_{gate}"].transpose(2, 3, 1, 0) for gate in "ifco"], -1)
    np.testing.assert_array_equal(modern.stored["lstm/kernel"].fetch(), kernel[::-1, ::-1])
    assert modern.stored["lstm/recurrent_kernel"].shape == (3, 3, 4, 16)
    np.testing.assert_array_equal(
        modern.stored["lstm/bias"].fetch(), np.concatenate([gates[f"lstm/b_{gate}"] for gate in "ifco"])
    )


def test_what_is_not_known_is_left_as_it_is(numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "highway/kernel": numbers(4, 4),
        "highway/W_carry": numbers(4, 4),
        "highway/bias": numbers(4),
        "highway/b_carry": numbers(4),
        "maxout/kernel": numbers(3, 4, 5),
        "maxout/bias": numbers(3, 5),
        "own/thing": numbers(2, 3, 4, 5, 6, 7),
    }
    modern = old_arrays.modern(stored_of(arrays), version="1", backend=None, kinds={}, kernels="th")
    for key, array in arrays.items():
        np.testing.assert_array_equal(modern.stored[key].fetch(), array)
    assert (modern.kinds, modern.notes, modern.undecided) == ({}, (), None)


@pytest.mark.parametrize("version", ["2.4.0", "2.15.0", "3.15.1"])
def test_what_keras_3_has_is_as_it_was(version: str, numbers: Draw, stored_of: Any) -> None:
    arrays = {
        "conv/kernel": numbers(64, 3, 3, 3),
        "conv/bias": numbers(64),
        "gru/kernel": numbers(4, 9),
        "gru/recurrent_kernel": numbers(3, 9),
        "gru/bias": numbers(2, 9),
        "bn/moving_variance": numbers(4),
    }
    stored = stored_of(arrays)
    modern = old_arrays.modern(stored, version=version, backend="tensorflow", kinds={})
    assert modern.stored == stored
    assert (modern.notes, modern.undecided) == ((), None)


SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)
NAMES = st.sampled_from(["conv", "gru_1", "embedding_1", "convolution1d_1", "deconvolution2d_1", "bn", "fc1"])
KEYS = st.builds("{}/{}".format, NAMES, st.sampled_from([*KERAS_1_ROLES.values(), "embeddings", "own"]))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(KEYS, SHAPES, max_size=16),
    version=st.sampled_from(["0", "1", "1.0.8", "1.2.2", "2.2.4", "3.15.1"]),
    dim_ordering=st.sampled_from([None, "th", "tf"]),
    kernels=st.sampled_from([None, "th", "tf"]),
)
def test_no_array_gets_lost_and_no_number_changes_whatever_a_file_holds(
    shapes: dict[str, tuple[int, ...]], version: str, dim_ordering: str | None, kernels: str | None, stored_of: Any
) -> None:
    assume(all(len(shape) > 1 for key, shape in shapes.items() if key.endswith("recurrent_kernel")))
    arrays = {key: np.random.default_rng(0).random(shape) for key, shape in shapes.items()}
    try:
        modern = old_arrays.modern(
            stored_of(arrays), version=version, backend=None, kinds={}, dim_ordering=dim_ordering, kernels=kernels
        )
    except bridge.BridgeError:
        return
    found = {key: tensor.fetch() for key, tensor in modern.stored.items()}
    assert {key: array.shape for key, array in found.items()} == {key: t.shape for key, t in modern.stored.items()}
    if not any("squared" in tensor.how or "added" in tensor.how for tensor in modern.stored.values()):
        assert numbers_in(found) == numbers_in(arrays)


def numbers_in(arrays: Arrays) -> list[float]:
    return sorted(number for array in arrays.values() for number in array.ravel().tolist())


@pytest.mark.filterwarnings("error")
def test_a_deviation_without_a_square_is_infinite_and_warns_of_nothing(stored_of: Any) -> None:
    """Only a damaged file has one, and what is infinite is never proved."""
    weights = {"bn/gamma": np.ones(2), "bn/beta": np.ones(2), "bn/moving_mean": np.ones(2)}
    stored = stored_of({**weights, "bn/moving_variance": np.array([1e30, 2], np.float32)})
    modern = old_arrays.modern(stored, version="1.0.5", backend=None, kinds={}, kernels="tf")
    np.testing.assert_array_equal(modern.stored["bn/moving_variance"].fetch(), [np.inf, 4])
