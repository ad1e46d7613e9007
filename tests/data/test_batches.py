"""The order of an epoch: every image once, the same for the same seed, another for each epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_convae.data import Split, batch_indices
from torch_convae.errors import ConvaeError


@given(count=st.integers(1, 300), batch_size=st.integers(1, 50), seed=st.integers(), epoch=st.integers(0, 99))
def test_every_index_comes_once_and_no_batch_of_one_is_left(count: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = batch_indices(count, batch_size, seed, epoch)
    assert torch.cat(batches).sort().values.tolist() == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-2])
    assert max(map(len, batches)) <= batch_size + 1
    if min(count, batch_size) > 1:
        assert min(map(len, batches)) > 1


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(3)  # the global generator moves on between calls
        return torch.cat(batch_indices(100, 7, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 25


def test_drawing_batches_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    batch_indices(10, 2, seed=1, epoch=1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (4, 0)])
def test_nothing_to_draw_is_refused(count: int, batch_size: int) -> None:
    with pytest.raises(ConvaeError, match=f"{count} images in batches of {batch_size} make no batch; give"):
        batch_indices(count, batch_size, seed=0, epoch=0)


def test_a_split_moves_whole() -> None:
    moved = Split(torch.zeros(2, 1, 3, 3), torch.zeros(2)).on(torch.device("meta"))
    assert (moved.images.device.type, moved.targets.device.type, len(moved)) == ("meta", "meta", 2)
