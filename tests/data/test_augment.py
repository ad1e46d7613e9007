"""Augmentation: seeded per example, masks in step with their images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_convae.data.augment import augmentation
from torch_convae.data.changes import CHANGES
from torch_convae.errors import ConvaeError

EVERYTHING = ",".join(CHANGES)
sides = st.integers(1, 20)


def example(count: int = 6, channels: int = 3, size: tuple[int, int] = (16, 16)) -> tuple[Tensor, Tensor, Tensor]:
    """Random images, masks of 0, 1, 2 and 255, and indices that are not in order."""
    numbers = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, *size), generator=numbers, dtype=torch.uint8)
    masks = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(0, 4, (count, *size), generator=numbers)]
    return images, masks, torch.randperm(count, generator=numbers) * 7


def changed(names: str, images: Tensor, masks: Tensor, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
    augment = augmentation(names, seed=3)
    assert augment is not None
    return augment(images, masks, indices, epoch)


@pytest.mark.parametrize("names", [*CHANGES, EVERYTHING])
@settings(deadline=None, max_examples=20)
@given(st.tuples(sides, sides), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_shapes_types_and_the_values_of_masks_stay(
    names: str, size: tuple[int, int], channels: int, epoch: int
) -> None:
    images, masks, indices = example(2, channels, size)
    images_after, masks_after = changed(names, images, masks, indices, epoch)
    assert (images_after.shape, images_after.dtype) == (images.shape, torch.uint8)
    assert (masks_after.shape, masks_after.dtype) == (masks.shape, torch.uint8)
    assert set(masks_after.unique().tolist()) <= set(masks.unique().tolist())


def test_an_example_is_changed_alike_in_any_batch_and_order() -> None:
    images, masks, indices = example()
    together = changed(EVERYTHING, images, masks, indices, epoch=5)
    for position in torch.randperm(len(images)).tolist():
        alone = changed(EVERYTHING, *(each[position : position + 1] for each in (images, masks, indices)), epoch=5)
        assert torch.equal(alone[0][0], together[0][position])
        assert torch.equal(alone[1][0], together[1][position])


def test_another_epoch_another_index_and_another_seed_draw_anew() -> None:
    images, masks, indices = example()
    first = changed(EVERYTHING, images, masks, indices)[0]
    assert torch.equal(first, changed(EVERYTHING, images, masks, indices)[0])
    assert not torch.equal(first, changed(EVERYTHING, images, masks, indices, epoch=1)[0])
    assert not torch.equal(first, changed(EVERYTHING, images, masks, indices + 1)[0])
    other = augmentation(EVERYTHING, seed=4)
    assert other is not None
    assert not torch.equal(first, other(images, masks, indices, 0)[0])


@pytest.mark.parametrize("name", ["flip", "vflip", "turn", "crop"])
def test_a_mask_moves_exactly_as_its_image(name: str) -> None:
    _, masks, indices = example(40)
    images_after, masks_after = changed(name, masks[:, None], masks, indices)
    assert torch.equal(images_after[:, 0], masks_after)
    assert not torch.equal(masks_after, masks)


def test_a_mask_is_scaled_as_its_image() -> None:
    halves = torch.zeros(30, 1, 40, 40, dtype=torch.uint8)
    halves[..., 13:, 17:] = 200
    images, masks = changed("scale", halves, halves[:, 0], torch.arange(30))
    assert ((images[:, 0] > 100) == (masks > 100)).float().mean() > 0.99
    assert len({int(mask.sum()) for mask in masks}) > 10, "the zoom does not vary"


@pytest.mark.parametrize("size", [(9, 9), (6, 9)])
def test_turns_are_exact_quarters_and_keep_a_shape_that_is_not_square(size: tuple[int, int]) -> None:
    images, masks, indices = example(60, size=size)
    after, _ = changed("turn", images, masks, indices)
    quarters = range(4) if size[0] == size[1] else (0, 2)
    kinds = [
        [k for k in quarters if torch.equal(one, image.rot90(k, (-2, -1)))]
        for one, image in zip(after, images, strict=True)
    ]
    assert all(len(kind) == 1 for kind in kinds)
    assert {kind[0] for kind in kinds} == set(quarters)


def test_half_of_the_images_are_flipped_over_many_epochs() -> None:
    images = torch.arange(2, dtype=torch.uint8).expand(500, 1, 1, 2)
    flipped = changed("flip", images, torch.zeros(500), torch.arange(500))[0][:, 0, 0, 0]
    assert 200 < int(flipped.sum()) < 300


def test_classes_and_masks_without_a_move_stay_as_they_are() -> None:
    images, masks, indices = example(3)
    labels = torch.tensor([4, 5, 6])
    assert changed(EVERYTHING, images, labels, indices)[1] is labels
    assert torch.equal(changed("colour", images, masks, indices)[1], masks)
    assert not torch.equal(changed("colour", images, masks, indices)[0], images)


def test_leaving_a_change_out_does_not_change_the_others() -> None:
    images, masks, indices = example(20)
    both = changed("flip,vflip", images, masks, indices)[0]
    in_turn = changed("vflip", *changed("flip", images, masks, indices), indices)[0]
    assert torch.equal(both, in_turn)


def test_all_frames_of_a_sequence_are_changed_alike() -> None:
    frames = torch.randint(0, 256, (1, 1, 3, 8, 8), dtype=torch.uint8).expand(2, 5, 3, 8, 8)
    after, _ = changed("colour", frames, torch.zeros(2, 2), torch.arange(2))
    assert all(torch.equal(after[:, 0], after[:, time]) for time in range(5))


def test_names_come_in_any_order_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    assert augmentation("none", 0) is None
    assert augmentation("crop, flip", 0) == augmentation("flip,crop", 0)
    with pytest.raises(ConvaeError, match=r"no augmentation 'flipp'; there are none, flip, .*did you mean flip\?"):
        augmentation("flipp", 0)
