"""The benchmarks compare loops that do the same; what they would say of speed is not looked at here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import gpu, loops, train_step
from benchmarks.overhead import overhead
from benchmarks.work import Work, autoencoder, of_network
from torch_convae.training import Run

CPU = torch.device("cpu")


@pytest.fixture
def work() -> Work:
    return autoencoder(CPU, batch=2, steps=3, size=8)


def test_our_loop_and_those_of_users_have_equal_losses(work: Work) -> None:
    ours = loops.ours(work, Run(CPU))(1)
    for other in (loops.tutorial(work), loops.pure(work, Run(CPU))):
        assert other(1).loss == pytest.approx(ours.before, rel=1e-5)
        assert other(1).loss == pytest.approx(ours.loss, rel=5e-3)


def test_a_loop_that_computes_something_else_is_found_before_anything_is_timed(work: Work) -> None:
    wrong = Work("wrong", autoencoder(CPU, 2, 3, 8).model(), 255 - work.images, 255 - work.images, 2)
    sides = {"torch-convae, contiguous": loops.ours(work, Run(CPU)), "another": loops.tutorial(wrong)}
    with pytest.raises(AssertionError, match=r"another has the loss .*: it does not compute the same"):
        train_step._equal_losses(sides)


def test_every_loop_goes_on_with_its_own_weights(work: Work) -> None:
    before = [parameter.clone() for parameter in work.network.parameters()]
    for loop in (loops.ours(work, Run(CPU)), loops.tutorial(work)):
        assert loop(3).loss != loop(3).loss
    assert all(map(torch.equal, before, work.network.parameters()))


def test_the_overhead_is_seen_within_a_step_and_against_a_bare_one(work: Work) -> None:
    found = overhead(work, "contiguous", 2)
    assert found["steps"] == 2 * work.steps - 1, "the last step is followed by none that would end it"
    assert overhead(replace(work, batch=3), "contiguous", 1)["steps"] == 2, "quarters take two"
    seconds = found["seconds"]
    assert all(each["min"] > 0 for each in seconds.values())
    assert seconds["its forward, backward, optimizer"]["median"] < seconds["ours"]["median"]
    for share in (found["share_beyond_them"], found["share_beyond_bare"]):
        assert share["lower"] <= share["median"] <= share["upper"]
    assert found["share_beyond_them"]["lower"] > 0


def test_keras_that_is_not_there_is_skipped_with_the_reason(work: Work) -> None:
    result = train_step.compared(work, 1, "python-that-is-nowhere", ("jax",))
    assert "python-that-is-nowhere" in result["skipped"]["Keras, jax"]
    assert result["layout"] in train_step.LAYOUTS


def test_operations_are_those_of_forward_and_backward() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    network.preprocessing = nn.Identity()
    images = torch.zeros(2, 3, 16, 16)
    work = Work("conv", network, images, torch.zeros(2, 16, 16, dtype=torch.uint8), 2)
    forward = 2 * 2 * 16 * 16 * 8 * 3 * 9
    assert gpu.operations(work) == 2 * forward, "no gradient is needed of the images"


def test_a_gpus_benchmark_runs_anywhere_and_counts_the_share_of_the_peak() -> None:
    work = of_network("segnet_basic", 3, CPU, (16, 16), batch=1, steps=2)
    peak = gpu.matrix_peak(CPU, 64, repeats=2)
    found = gpu.measured(work, peak, repeats=1, tiny=True)["loops"]
    assert set(found) == {
        f"{who}, {layout}, eager" for who in ("torch-convae", "plain PyTorch") for layout in train_step.LAYOUTS
    }
    assert all(each["share_of_matrix_peak"] > 0 for each in found.values())
