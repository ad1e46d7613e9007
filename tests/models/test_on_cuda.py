"""Every model on a CUDA device: what the CPU computes, and in deterministic mode the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_models import EVERY, small
from torch import Tensor, nn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and -m gpu"),
    pytest.mark.parametrize("name", EVERY),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Convolutions in float32 and not in TF32, which keeps three digits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Those of a loss that depends on every output, in training mode."""
    torch.manual_seed(1)
    output = model.train()(x)
    numbers = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(x.device)
    (output * numbers).mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_model_computes_on_cuda_what_it_does_on_the_cpu(name: str) -> None:
    model, x = small(name)
    with torch.no_grad():
        expected = model(x)
        for layout in (torch.contiguous_format, torch.channels_last):
            there = model.to(CUDA, memory_format=layout)
            images = x.to(CUDA) if x.dim() == 5 else x.to(CUDA, memory_format=layout)
            torch.testing.assert_close(there(images).cpu(), expected, rtol=1e-3, atol=1e-4)


def test_bytes_are_predicted_on_cuda_as_on_the_cpu(name: str) -> None:
    model, x = small(name)
    photographs = torch.randint(0, 256, x.shape, dtype=torch.uint8)
    expected = model.predict(photographs)
    found = model.to(CUDA).predict(photographs.to(CUDA))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-3)


def test_a_step_in_deterministic_mode_gives_the_same_bits_twice(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(2):
            model, x = small(name)
            found.append(gradients(model.to(CUDA), x.to(CUDA)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
