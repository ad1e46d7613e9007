"""Losses over classes against PyTorch, smp and computations by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from torch_convae.errors import ConvaeError
from torch_convae.training.losses import LOSSES, class_loss

VOID = 255
SHAPES = [(4,), (2, 5, 6), (2, 3, 4, 2)]


def example(shape: tuple[int, ...], classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and targets, a tenth of which is void."""
    numbers = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], classes, *shape[1:], generator=numbers, requires_grad=True)
    targets = torch.randint(0, classes, shape, generator=numbers, dtype=torch.uint8)
    targets[torch.rand(shape, generator=numbers) < 0.1] = VOID
    targets.view(-1)[0] = 1
    return logits, targets


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_that_of_pytorch(shape: tuple[int, ...], weighted: bool) -> None:
    logits, targets = example(shape)
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0]) if weighted else None
    expected = F.cross_entropy(logits, targets.long(), weights, ignore_index=VOID)
    loss = class_loss("cross-entropy", weights, VOID)(logits, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (loss, expected)))


def test_focal_is_cross_entropy_with_what_is_certain_left_aside() -> None:
    logits, targets = example((2, 5, 6))
    counted = targets != VOID
    truth = torch.where(counted, targets, 0).long()
    probability = logits.softmax(1).gather(1, truth[:, None])[:, 0]
    expected = (-((1 - probability) ** 2) * probability.log())[counted].mean()
    torch.testing.assert_close(class_loss("focal", None, VOID)(logits, targets), expected)


def test_dice_and_jaccard_are_those_of_smp_where_every_class_occurs() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="smp is not installed")
    logits, targets = example((3, 8, 9))
    dice = smp.losses.DiceLoss("multiclass", smooth=0.5, ignore_index=VOID)(logits, targets.long())  # adds 2 * smooth
    torch.testing.assert_close(class_loss("dice", None, VOID)(logits, targets), dice)
    masks = torch.where(targets == VOID, 0, targets)  # their Jaccard knows no void
    jaccard = smp.losses.JaccardLoss("multiclass", smooth=1.0)(logits, masks.long())
    torch.testing.assert_close(class_loss("jaccard", None, VOID)(logits, masks), jaccard)


def test_dice_of_one_class_is_the_formula_of_the_ultrasound_network() -> None:
    logits, targets = example((2, 6, 6), classes=2)
    targets[targets == VOID] = 0
    p, t = logits.softmax(1)[:, 1], (targets == 1).float()
    dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    only_the_nerve = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(class_loss("dice", only_the_nerve, VOID)(logits, targets), 1 - dice)


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16))
def test_what_void_pixels_say_changes_nothing(name: str, seed: int) -> None:
    logits, targets = example((2, 4, 5), seed=seed)
    other = torch.where((targets == VOID)[:, None], torch.randn_like(logits) * 50, logits)
    loss = class_loss(name, None, VOID)
    torch.testing.assert_close(loss(other, targets), loss(logits, targets))
    gradient = torch.autograd.grad(loss(logits, targets), logits)[0]
    assert not gradient.movedim(1, -1)[targets == VOID].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_nothing_but_void_has_a_loss_of_zero_and_moves_nothing(name: str) -> None:
    logits, targets = example((2, 4, 5))
    loss = class_loss(name, None, VOID)(logits, torch.full_like(targets, VOID))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_does(name: str) -> None:
    _, targets = example((2, 4, 5))
    sure = 100 * F.one_hot(torch.where(targets == VOID, 0, targets).long(), 5).movedim(-1, 1).float()
    loss = class_loss(name, None, VOID)
    assert loss(sure, targets).item() == pytest.approx(0, abs=1e-6)
    assert loss(sure.roll(1, dims=1), targets).item() > 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_of_zero_leaves_a_class_out(name: str) -> None:
    logits, targets = example((2, 4, 5))
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    value = class_loss(name, weights, VOID)(logits, targets).item()
    without = class_loss("cross-entropy", None, VOID)(logits, torch.where(targets == 2, VOID, targets))
    if name == "cross-entropy":
        assert value == pytest.approx(without.item())
    assert np.isfinite(value)
    assert class_loss(name, torch.zeros(5), VOID)(logits, targets).item() == 0


def test_losses_are_added_by_name() -> None:
    logits, targets = example((2, 4, 5))
    both = class_loss("cross-entropy+dice", None, VOID)(logits, targets)
    apart = [class_loss(name, None, VOID)(logits, targets) for name in ("cross-entropy", "dice")]
    torch.testing.assert_close(both, sum(apart))


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_single(name: str) -> None:
    logits, targets = example((2, 40, 50))
    rounded = logits.bfloat16()
    loss = class_loss(name, None, VOID)
    assert loss(rounded, targets).dtype == torch.float32
    torch.testing.assert_close(loss(rounded, targets), loss(rounded.float(), targets))


def test_an_unknown_loss_is_refused_with_the_list() -> None:
    with pytest.raises(ConvaeError, match=r"no loss 'dize' .* cross-entropy, focal, dice, jaccard"):
        class_loss("cross-entropy+dize")
