"""One temperature for all logits, and what it mends."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torch_convae.training.calibration import belief, counted, divide_logits, temperature


def overconfident(count: int = 4000, factor: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is right, times a factor, and truths drawn from the right ones."""
    numbers = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 4, generator=numbers)
    return logits * factor, torch.multinomial(logits.softmax(1), 1, generator=numbers)[:, 0]


def test_the_temperature_undoes_too_much_confidence() -> None:
    logits, truth = overconfident()
    batches = list(zip(logits.split(300), truth.split(300), strict=True))
    found = temperature(batches)
    assert found == pytest.approx(3.0, rel=0.1)
    before, after = belief(batches), belief(batches, found)
    assert after.nll < before.nll
    assert after.error < 0.03 < before.error
    assert before.nll == pytest.approx(F.cross_entropy(logits, truth).item(), rel=1e-5)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    logits = torch.tensor([0.9, 0.1]).log().expand(10, 2)  # nine tenths sure of class 0
    truth = torch.tensor([0] * 6 + [1] * 4)
    assert belief([(logits, truth)]).error == pytest.approx(0.3, abs=1e-6)


def test_dividing_the_last_layer_divides_the_logits() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
    x = torch.randn(2, 3)
    before = network(x).detach()
    divide_logits(network[2], 2.5)
    torch.testing.assert_close(network(x).detach(), before / 2.5)


def test_pixels_of_void_do_not_count() -> None:
    logits, truth = counted(torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255), void=255)
    assert (logits.shape, truth.shape) == ((0, 3), (0,))
