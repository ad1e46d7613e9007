"""Keeping and holding out, as functions of counts alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from torch_convae.data.selection import balanced, hold_out, spread


@given(count=st.integers(1, 200), limit=st.integers(1, 250))
def test_a_spread_is_in_order_without_repeats_and_as_long_as_it_may_be(count: int, limit: int) -> None:
    kept = spread(count, limit)
    assert kept == sorted(set(kept))
    assert len(kept) == min(count, limit)
    assert set(kept) <= set(range(count))


@given(targets=st.lists(st.integers(0, 5), min_size=1, max_size=80), limit=st.integers(1, 90))
def test_a_balanced_choice_gives_no_class_more_while_another_could_have_it(targets: list[int], limit: int) -> None:
    kept = balanced(targets, limit)
    assert kept == sorted(set(kept))
    assert len(kept) == min(len(targets), limit)
    taken, there = Counter(targets[position] for position in kept), Counter(targets)
    most = max(taken.values())
    assert all(taken[target] >= most - 1 or taken[target] == there[target] for target in there)


@given(count=st.integers(2, 200), seed=st.integers())
def test_held_out_and_kept_make_up_the_whole(count: int, seed: int) -> None:
    train, test = hold_out(count, seed)
    assert sorted(train + test) == list(range(count))
    assert len(train) >= 1
    assert len(test) == max(1, round(count * 0.2))
