"""Class weights by median frequency, as published, or as given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from torch_convae.data import VOID
from torch_convae.errors import ConvaeError
from torch_convae.training.class_weights import SEGNET_CAMVID_WEIGHTS, class_weights, median_frequency

MASKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid" / "train" / "masks"
OF_THE_MASKS = (0.2793, 0.2017, 4.7865, 0.1490, 1.0000, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587)


def test_the_masks_of_camvid_give_the_known_weights() -> None:
    if not MASKS.exists():
        pytest.skip("CamVid is not here")
    masks = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(MASKS.iterdir())])
    weights = median_frequency(masks.split(50), len(SEGNET_CAMVID_WEIGHTS))
    assert len(masks) == 367
    assert weights.numpy().round(4) == pytest.approx(OF_THE_MASKS)


def test_the_published_weights_are_those_of_the_authors_in_any_order() -> None:
    names = list(reversed(SEGNET_CAMVID_WEIGHTS))
    weights = class_weights("published", names, [])
    assert weights is not None
    expected = [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614]
    assert weights.flip(0).tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, VOID])), st.integers(1, 3))
def test_a_weight_is_the_median_of_the_frequencies_over_that_of_the_class(masks: np.ndarray, batch: int) -> None:
    frequency = {}
    for index in range(3):
        having = [mask for mask in masks if (mask == index).any()]
        if having:
            frequency[index] = sum((mask == index).sum() for mask in having) / (20 * len(having))
    middle = np.median(list(frequency.values())) if frequency else 1
    expected = [middle / frequency[index] if index in frequency else float(not frequency) for index in range(3)]
    assert median_frequency(torch.from_numpy(masks).split(batch), 3).tolist() == pytest.approx(expected)


def test_labels_are_weighed_by_how_many_images_have_them() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    assert median_frequency(labels.split(2), 3).tolist() == pytest.approx([0.5, 1, 2])


def test_weights_are_given_one_a_class() -> None:
    weights = class_weights("1, 2.5,0", ["a", "b", "c"], [])
    assert weights is not None
    assert weights.tolist() == [1, 2.5, 0]
    assert class_weights("none", ["a", "b"], []) is None


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("medium", "'medium' is neither none, median, published"),
        ("1,2", "should hold 3 numbers of at least 0, not all 0: for a, b, c"),
        ("1,2,-3", "should hold 3 numbers"),
        ("0,0,0", "not all 0"),
        ("1,2,nan", "should hold 3 numbers"),
        ("published", "are for Sky, Building"),
    ],
)
def test_other_weights_are_refused(choice: str, said: str) -> None:
    with pytest.raises(ConvaeError, match=said):
        class_weights(choice, ["a", "b", "c"], [])
