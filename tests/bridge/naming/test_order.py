"""By order: the first convolution goes to the first convolution, and nothing is paired that does not come out even."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.naming.order import by_order

CONV, DENSE, BN, UP = "Conv2D", "Dense", "BatchNormalization", "Conv2DTranspose"
CONVOLUTION = (CONV, "DepthwiseConv2D", DENSE)  # what nn.Conv2d can be in Keras
SIDES = ("old.h5", "Net")


def fits_all(*_: str) -> None:
    """Nothing to say against any pair."""


def refusing(layer: str, reason: str) -> Callable[[str, str], str | None]:
    return lambda source, _: reason if source == layer else None


def refusal(source: dict[str, object], own: dict[str, object], fits: object = fits_all) -> str:
    with pytest.raises(BridgeError) as caught:
        by_order(source, own, fits, SIDES)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_kind_is_paired_in_its_own_order() -> None:
    source = {"b": CONV, "bn_b": BN, "a": CONV, "bn_a": BN, "fc": DENSE}
    own = {"head": DENSE, "stem/0": CONV, "stem/3": CONV, "stem/1": BN, "stem/4": BN}
    pairs = by_order(source, own, fits_all)
    assert pairs == {"b": "stem/0", "bn_b": "stem/1", "a": "stem/3", "bn_a": "stem/4", "fc": "head"}
    assert list(pairs) == list(source)


def test_nothing_on_either_side_is_no_pair() -> None:
    assert by_order({}, {}, fits_all) == {}


def test_what_a_file_has_too_many_of_is_named_with_both_counts() -> None:
    line = refusal({"a": CONV, "b": CONV, "fc": DENSE}, {"x/0": CONV, "fc": DENSE})
    assert line == (
        "old.h5 has 2 Conv2D and Net 1: by order b has no counterpart. "
        "Leave out what only one side has, with skip 'b', or pair by name with rename."
    )


def test_what_a_module_has_too_many_of_is_named_with_both_counts() -> None:
    line = refusal({"a": CONV}, {"x/0": CONV, "x/2": CONV, "x/4": CONV})
    assert line.startswith("old.h5 has 1 Conv2D and Net 3: by order x.2 has no counterpart. ")
    assert "skip 'x.2'" in line
    assert refusal({"a": CONV}, {"x": CONV, "fc": DENSE}).startswith("old.h5 has 0 Dense and Net 1: by order fc has no")


def test_the_first_pair_that_does_not_fit_is_named_with_its_reason() -> None:
    fits = refusing("b", "kernel (3, 3, 4, 6) does not fit x.2.weight (7, 4, 3, 3)")
    line = refusal({"a": CONV, "b": CONV, "c": CONV}, {"x/0": CONV, "x/2": CONV, "x/4": CONV}, fits)
    assert line.startswith(
        "old.h5 has 3 Conv2D and Net 3: by order b would go to x.2, but kernel (3, 3, 4, 6) does not fit x.2.weight "
        "(7, 4, 3, 3). Leave out"
    )


def test_a_source_whose_order_is_in_doubt_says_so_where_a_pair_does_not_fit() -> None:
    source, own = {"a": CONV, "b": CONV}, {"x": CONV, "y": CONV}
    with pytest.raises(BridgeError, match=r"with rename\. The file does not say the order\.$"):
        by_order(source, own, refusing("b", "it is wider"), SIDES, "The file does not say the order.")
    with pytest.raises(BridgeError, match=r"with rename\.$"):
        by_order(source, own | {"z": CONV}, fits_all, SIDES, "The file does not say the order.")


def test_where_the_counts_differ_the_first_misfit_tells_where() -> None:
    line = refusal({"a": CONV, "b": CONV, "c": CONV}, {"x/0": CONV, "x/2": CONV}, refusing("b", "kernel is another"))
    assert line.startswith("old.h5 has 3 Conv2D and Net 2: by order b would go to x.2, but kernel is another. ")


def test_a_dense_layer_goes_to_a_convolution_where_the_kinds_would_not_come_out_even() -> None:
    """As in timm's VGG: fc1 and fc2 are convolutions there."""
    source = {"conv1": CONV, "conv2": CONV, "fc1": DENSE, "fc2": DENSE, "predictions": DENSE}
    own = {"0": CONVOLUTION, "2": CONVOLUTION, "fc1": CONVOLUTION, "fc2": CONVOLUTION, "head": (DENSE,)}
    assert by_order(source, own, fits_all) == dict(zip(source, own, strict=True))


def test_kinds_that_come_out_even_are_never_mixed() -> None:
    source = {"fc": DENSE, "conv": CONV}
    own = {"0": CONVOLUTION, "head": (DENSE,)}
    assert by_order(source, own, fits_all) == {"fc": "head", "conv": "0"}


def test_a_class_that_the_file_does_not_tell_is_settled_by_place() -> None:
    """Without its class a transposed convolution's kernel looks like a convolution's."""
    either = (CONV, UP)
    source = {"a": either, "up": either, "b": either, "bn": BN}
    own = {"down": CONVOLUTION, "up": (UP,), "out": CONVOLUTION, "norm": (BN,)}
    assert by_order(source, own, fits_all) == {"a": "down", "up": "up", "b": "out", "bn": "norm"}
    assert refusal({"a": either, "b": either, "c": either}, {"x": (CONV,), "y": (UP,)}).startswith(
        "old.h5 has 3 Conv2D or Conv2DTranspose and Net 2: by order c has no counterpart."
    )


def test_a_pair_of_other_kinds_is_refused() -> None:
    line = refusal({"up": UP, "a": (UP, CONV), "b": CONV}, {"x": (CONV,), "y": (UP,), "z": (CONV,)})
    assert line.startswith(
        "old.h5 has 3 Conv2D or Conv2DTranspose and Net 3: by order up would go to x, but that is Conv2D and takes no "
        "Conv2DTranspose. Leave out"
    )


kinds = st.lists(st.sampled_from([CONV, DENSE, BN, UP]), max_size=30)


@given(order=kinds, seed=st.randoms(use_true_random=False))
def test_the_kinds_may_lie_in_another_order_between_themselves(order: list[str], seed: object) -> None:
    """Whatever lies between: the k-th of a kind goes to the k-th of it, and every layer has one partner."""
    source = {f"s{index}": kind for index, kind in enumerate(order)}
    shuffled = list(order)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    own = {f"o{index}": kind for index, kind in enumerate(shuffled)}
    pairs = by_order(source, own, lambda layer, path: None if source[layer] == own[path] else "another kind")
    assert sorted(pairs.values()) == sorted(own)
    for kind in set(order):
        mine = [layer for layer in source if source[layer] == kind]
        assert [pairs[layer] for layer in mine] == [path for path in own if own[path] == kind]
