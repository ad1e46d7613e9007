"""Figures against a plain computation in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_convae.data import VOID
from torch_convae.training import class_iou
from torch_convae.training.metrics import (
    accuracy,
    class_f1,
    confusion,
    kappa,
    mean_class_accuracy,
    mean_f1,
    mean_iou,
)

CLASSES = 4
labels = st.integers(0, CLASSES - 1)
pixels = st.lists(st.tuples(labels, st.one_of(labels, st.just(VOID))), min_size=1, max_size=60)


def matrix(pairs: list[tuple[int, int]], void: int | None = VOID) -> torch.Tensor:
    """The confusion matrix of predictions beside truths, as an image of one row."""
    predicted = torch.tensor([prediction for prediction, _ in pairs])
    logits = torch.nn.functional.one_hot(predicted, CLASSES).T[None, :, None].float()  # (1, classes, 1, pixels)
    truth = torch.tensor([[[truth for _, truth in pairs]]], dtype=torch.uint8)
    return confusion(logits, truth, void)


@settings(deadline=None)
@given(pixels)
def test_confusion_counts_every_pair_but_those_of_void(pairs: list[tuple[int, int]]) -> None:
    expected = np.zeros((CLASSES, CLASSES), int)
    for prediction, truth in pairs:
        if truth != VOID:
            expected[truth, prediction] += 1
    np.testing.assert_array_equal(matrix(pairs).numpy(), expected)


@settings(deadline=None)
@given(pixels)
def test_accuracy_is_the_share_of_right_ones(pairs: list[tuple[int, int]]) -> None:
    counted = [(prediction, truth) for prediction, truth in pairs if truth != VOID]
    right = sum(prediction == truth for prediction, truth in counted)
    assert accuracy(matrix(pairs)) == pytest.approx(right / len(counted) if counted else 0, rel=1e-12)


@settings(deadline=None)
@given(pixels)
def test_iou_is_intersection_over_union_of_the_sets_of_pixels(pairs: list[tuple[int, int]]) -> None:
    predicted, truth = np.array([pair for pair in pairs if pair[1] != VOID]).reshape(-1, 2).T
    expected: list[float | None] = []
    for index in range(CLASSES):
        union = ((predicted == index) | (truth == index)).sum()
        both = ((predicted == index) & (truth == index)).sum()
        expected.append(float(both / union) if union else None)
    assert class_iou(matrix(pairs)) == expected
    present = [value for value in expected if value is not None]
    assert mean_iou(matrix(pairs)) == pytest.approx(np.mean(present) if present else 0, rel=1e-12)


def test_classes_of_whole_images_need_no_void() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    counts = confusion(logits, torch.tensor([1, 1, 0]), None)
    assert counts.tolist() == [[0, 1], [1, 1]]


def test_a_hand_computed_case() -> None:
    counts = torch.tensor([[3, 1], [2, 4]])
    assert accuracy(counts) == 0.7
    assert class_iou(counts) == [3 / 6, 4 / 7]
    assert mean_iou(counts) == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert class_f1(counts) == pytest.approx([6 / 9, 8 / 11])
    assert mean_f1(counts) == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert mean_class_accuracy(counts) == pytest.approx((3 / 4 + 4 / 6) / 2)
    chance = (4 * 5 + 6 * 5) / 100
    assert kappa(counts) == pytest.approx((0.7 - chance) / (1 - chance))


def test_kappa_of_a_single_class_is_zero() -> None:
    assert kappa(torch.tensor([[7, 0], [0, 0]])) == 0
    assert kappa(torch.zeros(2, 2, dtype=torch.int64)) == 0


@settings(deadline=None, max_examples=50)
@given(pixels.filter(lambda pairs: len({truth for _, truth in pairs} - {VOID}) > 1))
def test_the_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    predicted, truth = np.array([pair for pair in pairs if pair[1] != VOID]).T
    counts = matrix(pairs)
    assert accuracy(counts) == pytest.approx(sklearn.accuracy_score(truth, predicted))
    assert mean_f1(counts) == pytest.approx(sklearn.f1_score(truth, predicted, average="macro", zero_division=0))
    assert mean_iou(counts) == pytest.approx(sklearn.jaccard_score(truth, predicted, average="macro", zero_division=0))
    assert kappa(counts) == pytest.approx(sklearn.cohen_kappa_score(truth, predicted))
    recall = sklearn.recall_score(truth, predicted, average=None, labels=sorted(set(truth)), zero_division=0)
    assert mean_class_accuracy(counts) == pytest.approx(recall.mean())
