"""Releasing a network bit by bit: who trains when, at which rate, and what the batch statistics do."""

from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_convae import ConvaeError
from torch_convae.training import Phase, Release, Stage, freeze_all_but
from torch_convae.training.optimisation import OPTIMIZERS
from torch_convae.training.segments import groups_of, segments_of

Build = Callable[..., Any]
GRADUAL = Stage(
    "finetune",
    epochs=4,
    lr=1e-2,
    train=("head.*",),
    release=(Release(("encoder.1.*",), 1, 0.5), Release(("encoder.0.*",), 3, 0.1, batch_statistics=True)),
)


def moved_by_epoch(built: Any, phase: Phase) -> list[set[str]]:
    """Which tensors each epoch of a phase moved."""
    states: list[dict[str, Tensor]] = []
    trainer = built.trainer
    original = trainer._run_epoch

    def epoch(active: Any) -> None:
        states.append({name: tensor.clone() for name, tensor in phase.model.state_dict().items()})
        original(active)

    trainer._run_epoch = epoch
    trainer.train([phase])
    states.append(dict(phase.model.state_dict()))
    return [
        {name for name in before if not torch.equal(before[name], after[name])} for before, after in pairwise(states)
    ]


def test_each_group_trains_from_its_epoch_on_and_is_bit_equal_until_then(tiny: Build) -> None:
    built = tiny()
    moved = moved_by_epoch(built, Phase(GRADUAL, built.models["classifier"], built.phases[2].task))
    encoders = [{name for name in names if name.startswith("encoder.")} for names in moved]
    assert encoders[0] == set()
    assert encoders[1] == encoders[2] == {"encoder.1.weight", "encoder.1.bias"}
    assert encoders[3] >= {"encoder.1.weight", "encoder.0.weight", "encoder.0.bias"}
    assert not [name for name in encoders[3] if "running" in name], "its statistics were to stay"
    assert all("head.1.weight" in names for names in moved)


def test_every_segment_is_proved_by_hashes_and_they_differ_as_more_is_released(tiny: Build) -> None:
    built = tiny()
    phase = Phase(GRADUAL, built.models["classifier"], built.phases[2].task)
    proofs = built.trainer.train([phase])["finetune"]["frozen"]
    assert [(proof["first_epoch"], proof["last_epoch"]) for proof in proofs] == [(1, 1), (2, 3), (4, 4)]
    assert all(proof["frozen_sha256_start"] == proof["frozen_sha256_end"] for proof in proofs)
    assert len({proof["frozen_sha256_start"] for proof in proofs}) == 3
    lines = built.trainer.progress.history
    assert [line["epoch"] for line in lines if "frozen_sha256_start" in line] == [1, 2, 4]
    assert [line["epoch"] for line in lines if "frozen_sha256_end" in line] == [1, 3, 4]


def rates(tiny: Build, stage: Stage) -> list[list[float]]:
    """The rate of each group at every step."""
    built = tiny()
    found: list[list[float]] = []
    original = torch.optim.Adam.step

    def step(self: Any, *arguments: Any, **options: Any) -> Any:
        found.append([group["lr"] for group in self.param_groups])
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        built.trainer.train([Phase(stage, built.models["classifier"], built.phases[2].task)])
    return found


def test_each_group_has_its_own_rate(tiny: Build) -> None:
    expected = [[1e-2]] * 3 + [[1e-2, 5e-3]] * 6 + [[1e-2, 5e-3, 1e-3]] * 3
    for found, wanted in zip(rates(tiny, GRADUAL), expected, strict=True):
        assert found == pytest.approx(wanted)


def test_the_rate_of_what_is_released_rises_over_the_warm_up(tiny: Build) -> None:
    stage = Stage("finetune", 3, 1e-2, ("head.*",), release=(Release(("encoder.*",), 1),), warmup=4)
    found = rates(tiny, stage)
    assert [rate[0] for rate in found] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])
    assert [rate[1] for rate in found[3:]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("keep", [False, True])
def test_the_optimizer_goes_on_with_what_it_knows_only_where_it_is_to(tiny: Build, keep: bool) -> None:
    steps: list[int] = []
    built = tiny()
    head = built.models["classifier"].head[4].weight
    original = torch.optim.Adam.step

    def step(self: Any, *arguments: Any, **options: Any) -> Any:
        steps.append(int(self.state[head]["step"]) if self.state.get(head) else 0)
        return original(self, *arguments, **options)

    stage = Stage("finetune", 2, 1e-2, ("head.*",), release=(Release(("encoder.*",), 1),), keep_optimizer=keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        built.trainer.train([Phase(stage, built.models["classifier"], built.phases[2].task)])
    assert steps == ([0, 1, 2, 3, 4, 5] if keep else [0, 1, 2, 0, 1, 2])


def test_what_several_patterns_match_belongs_to_the_last(tiny: Build) -> None:
    classifier = tiny().models["classifier"]
    first, second = groups_of(Stage("s", 2, 1.0, release=(Release(("encoder.*",), 0, 0.1),)), classifier)
    assert {name.partition(".")[0] for name in first.parameters} == {"head"}
    assert {name.partition(".")[0] for name in second.parameters} == {"encoder"}


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (Stage("s", 2, 1.0, ("head.*",), release=(Release(("encodr.*",), 1),)), r"'encodr\.\*' matches no parameter"),
        (
            Stage("s", 2, 1.0, ("head.*",), release=(Release(("encoder.*",), 2),)),
            "releases more in epoch 3, but its last is 2",
        ),
        (Stage("s", 2, 1.0, ("head.*",), release=(Release(("*",), 1),)), "later releases take all"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused_before_anything_trains(tiny: Build, stage: Stage, text: str) -> None:
    with pytest.raises(ConvaeError, match=text):
        segments_of(stage, tiny().models["classifier"])


def test_patterns_are_anchored() -> None:
    net = nn.ModuleDict({"conv": nn.Linear(2, 2), "my_conv": nn.Linear(2, 2), "conv_D": nn.Linear(2, 2)})
    freeze_all_but(net, ("conv.*",))
    assert {name for name, each in net.named_parameters() if each.requires_grad} == {"conv.weight", "conv.bias"}


@pytest.mark.parametrize("kinds", [*permutations(OPTIMIZERS, 2)], ids="-".join)
def test_an_optimizer_of_another_kind_begins_anew(tiny: Build, kinds: tuple[str, str]) -> None:
    stages = tuple(Stage(f"stage {kind}", 1, 1e-3, optimizer=kind, keep_optimizer=True) for kind in kinds)
    built = tiny("run", stages=stages)
    built.train()
    assert [line["stage"] for line in built.trainer.progress.history] == ["stage " + kind for kind in kinds]


UNCLEAR = {
    "two of one name": ((Stage("a", 1, 1e-3), Stage("a", 1, 1e-2)), "Two stages are called 'a'"),
    "no epoch": ((Stage("a", 1, 1e-3), Stage("b", 0, 1e-2)), "Stage b has 0 epochs"),
    "nothing to train": ((Stage("a", 1, 1e-3, train=()),), "Stage a trains nothing"),
    "an unknown optimizer": ((Stage("a", 1, 1e-3, optimizer="lion"),), "no optimizer 'lion'; there are adam, "),
}


@pytest.mark.parametrize(("stages", "text"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_stages_that_no_run_can_make_sense_of_are_refused(
    tiny: Build, tmp_path: Path, stages: tuple[Stage, ...], text: str
) -> None:
    built = tiny("run", stages=stages)
    built.phases = built.phases[: len(stages)]
    with pytest.raises(ConvaeError, match=text):
        built.train()
    assert not list(tmp_path.glob("run/checkpoint*"))
