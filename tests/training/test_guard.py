"""The guard against a late jump of the loss: what it takes for one, and what the run does then."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torch_convae.training import Diverged, Phase, Stage
from torch_convae.training.archive import read_archive
from torch_convae.training.guard import Spike, Watch

Build = Callable[..., Any]
LONG = (Stage("pretrain", 1, 1e-3), Stage("finetune", epochs=14, lr=1e-3, batch_statistics=False))


def first_spike(losses: list[float], block: int = 7, norms: tuple[float, ...] = (1.0,)) -> Spike | None:
    """What a watch makes of these losses, looked at now and then."""
    watch = Watch()
    for index, loss in enumerate(losses):
        watch.note(torch.tensor([loss, *norms]))
        if index % block == 0 and (found := watch.look()) is not None:
            return found
    return watch.look()


def scattered(count: int, middle: float, spread: float) -> list[float]:
    numbers = np.random.default_rng(0)
    return (middle * np.exp(spread * numbers.standard_normal(count))).tolist()


@pytest.mark.parametrize("factor", [13, 23, 29])
def test_a_late_jump_as_of_a_careless_release_is_a_spike(factor: float) -> None:
    losses = [*scattered(200, 0.00445, 0.2), *scattered(10, 0.00445 * factor, 0.2)]
    spike = first_spike(losses)
    assert spike is not None
    assert 200 < spike.step <= 206
    assert spike.usual == pytest.approx(0.00445, rel=0.2)


def test_what_a_careful_release_does_is_none() -> None:
    assert first_spike([*scattered(200, 0.00445, 0.2), 0.0102, *scattered(50, 0.005, 0.3)]) is None


def test_a_single_hard_batch_is_none() -> None:
    assert first_spike([*scattered(100, 0.1, 0.2), 1.2, *scattered(50, 0.1, 0.2)]) is None


def test_losses_that_scatter_widely_are_none() -> None:
    assert first_spike(scattered(500, 0.01, 1.0)) is None


def test_a_loss_that_falls_from_its_beginning_is_none() -> None:
    assert first_spike([2.0 * 0.97**step for step in range(300)]) is None


def test_a_network_that_has_converged_may_have_any_multiple_of_nothing() -> None:
    assert first_spike([*scattered(100, 1.0, 0.1), *scattered(100, 1e-9, 0.1), *scattered(20, 1e-7, 0.1)]) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_is_a_spike_at_once(value: float) -> None:
    spike = first_spike([0.5, 0.4, value])
    assert spike is not None
    assert spike.step == 3


def test_what_is_a_spike_does_not_depend_on_when_somebody_looks() -> None:
    losses = [*scattered(120, 0.01, 0.3), *scattered(20, 0.3, 0.3)]
    assert len({first_spike(losses, block) for block in (1, 5, 32, 1000)}) == 1


def test_the_group_whose_gradient_grew_most_is_named() -> None:
    watch = Watch()
    for _ in range(60):
        watch.note(torch.tensor([0.1, 5.0, 0.01]))
    for _ in range(10):
        watch.note(torch.tensor([3.0, 6.0, 0.9]))
    spike = watch.look()
    assert spike is not None
    assert spike.group == 1
    assert "most of it in encoder.*" in spike.describe(["head.*", "encoder.*"])


def spoil(built: Any, at: Callable[[int], bool], value: float = 60.0) -> None:
    """Moves a bias far away in some of the steps of the classifier, as one careless step would."""
    steps: list[int] = []

    def hook(parameter: nn.Parameter) -> None:
        steps.append(1)
        if at(len(steps)):
            with torch.no_grad():
                parameter[0] += value

    built.models["classifier"].head[4].bias.register_post_accumulate_grad_hook(hook)


def test_after_a_jump_the_run_goes_back_and_on_more_slowly(
    tiny: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tiny(stages=LONG)
    spoil(built, lambda step: step == 30)
    results = built.train()
    (spike,) = results["finetune"]["spikes"]
    assert (spike["stage"], spike["epoch"]) == ("finetune", 11)
    assert spike["loss"] > 5 * spike["usual"]
    assert "goes on from epoch 1 at 0.1 times the rate" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["stage"] == "finetune"] == list(range(1, 15))
    assert max(line["train_loss"] for line in lines if line["stage"] == "finetune") < 5


def test_a_jump_that_comes_again_ends_the_run_and_all_is_kept(tiny: Build, tmp_path: Path) -> None:
    built = tiny(stages=LONG)
    spoil(built, lambda step: step % 30 == 0)
    with pytest.raises(Diverged, match=r"finetune is .* after about .*again after the run went back.*--fresh"):
        built.train()
    kept = read_archive(tmp_path / "run/checkpoint.safetensors")
    assert kept is not None
    assert kept["progress"]["phase"] == 1
    assert all(tensor.isfinite().all() for tensor in kept["weights"].values())
    assert float(kept["weights"]["classifier.head.4.bias"].abs().max()) < 5


@pytest.mark.parametrize("value", [60.0, math.nan])
def test_a_guard_that_is_to_stop_stops_at_the_first(tiny: Build, value: float) -> None:
    built = tiny(stages=LONG)
    built.trainer.guard = "stop"
    spoil(built, lambda step: step == 30, value)
    with pytest.raises(Diverged, match="finetune is"):
        built.train()


def test_a_guard_that_is_to_report_lets_the_run_go_on(tiny: Build, capsys: pytest.CaptureFixture[str]) -> None:
    built = tiny(stages=LONG)
    built.trainer.guard = "report"
    spoil(built, lambda step: step == 30)
    results = built.train()
    assert len(results["finetune"]["spikes"]) >= 1
    assert "the loss is" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_no_number_that_shows_when_a_stage_is_saved_goes_back_within_it(tiny: Build, stage: str) -> None:
    """A variance that overflowed: the layer gives zeros, so that every loss is a number."""
    built, ends = tiny(stages=(*LONG[:1], Stage("finetune", epochs=2, lr=1e-3))), []

    def finished(phase: Phase, _: object) -> None:
        ends.append(phase.stage.name)
        if ends.count(stage) == 1 and phase.stage.name == stage:
            built.models["autoencoder"].encoder[1].running_var.fill_(math.inf)

    built.trainer.finished = finished
    results = built.train()
    (spike,) = built.trainer.progress.spikes
    assert spike["stage"] == stage
    assert ends == [name for name in ("pretrain", "finetune") for _ in range(1 + (name == stage))]
    assert list(results) == ["pretrain", "finetune"]
    assert built.models["autoencoder"].encoder[1].running_var.isfinite().all()


def test_without_a_guard_no_number_still_ends_the_run(tiny: Build) -> None:
    built = tiny(stages=LONG)
    built.trainer.guard = "off"
    spoil(built, lambda step: step == 5, math.nan)
    with pytest.raises(Diverged, match="finetune is nan"):
        built.train()


def test_the_guard_changes_no_bit_of_a_run_without_jumps(tiny: Build, same: Callable[..., bool]) -> None:
    states = []
    for name, mode in (("on", "rollback"), ("off", "off")):
        built = tiny(name)
        built.trainer.guard = mode
        built.train()
        states.append(built.state)
    assert same(*states)


def test_a_run_that_went_back_and_was_stopped_comes_to_the_same_bits(tiny: Build, same: Callable[..., bool]) -> None:
    whole = tiny("whole", stages=LONG)
    spoil(whole, lambda step: step == 30)
    whole.train()
    ended: list[str] = []

    def stop_soon(phase: Phase, _: object) -> None:
        ended.append(phase.stage.name)

    again = tiny("again", stages=LONG)
    again.trainer.finished = stop_soon
    spoil(again, lambda step: step == 30)
    again.train()
    assert ended == ["pretrain", "finetune"]
    assert same(whole.state, again.state)


def test_gradients_are_clipped_to_the_norm_that_was_asked_for(tiny: Build) -> None:
    largest: list[float] = []
    built = tiny(stages=(Stage("pretrain", 1, 1e-3), Stage("finetune", 1, 1e-3, clip=0.01)))
    original = torch.optim.Adam.step

    def step(self: Any, *arguments: Any, **options: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        largest.append(float(nn.utils.get_total_norm(gradients)))
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        built.train()
    assert max(largest[:3]) > 0.02
    assert max(largest[3:]) <= 0.0101


def test_no_number_on_another_split_says_which(tiny: Build) -> None:
    built = tiny("run")
    splits = built.trainer.splits
    test = replace(splits.measured["test"], images=torch.full((4, 1, 6, 6), torch.nan))
    built.trainer.splits = replace(splits, measured={**splits.measured, "test": test})
    with pytest.raises(Diverged, match=r"on test is nan, in epoch 1.*See that all numbers of test are finite"):
        built.train()
