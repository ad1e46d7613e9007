"""Features of a frozen encoder are computed once: the same losses, whatever they are kept in."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import torch_convae
from torch_convae.data import Split
from torch_convae.training import (
    Caching,
    Phase,
    Run,
    Splits,
    Stage,
    classification,
    estimate,
    freeze_all_but,
    train_mode,
)
from torch_convae.training.caching import decide
from torch_convae.training.features import Maker

Build = Callable[..., Any]
HEAD = (Stage("pretrain", 1, 1e-2), Stage("head", epochs=4, lr=1e-2, train=("head.*",)))


def counted(built: Any) -> list[int]:
    """The sizes of all batches that the encoder computes in the head's stage."""
    sizes: list[int] = []
    classifier = built.models["classifier"]

    def note(_: object, given: tuple[Tensor, ...]) -> None:
        if not classifier.encoder[0].weight.requires_grad:
            sizes.append(len(given[0]))

    classifier.encoder.register_forward_pre_hook(note)
    return sizes


def trained(tiny: Build, name: str, caching: Caching, **more: Any) -> tuple[Any, list[float], list[int]]:
    built = tiny(name, stages=HEAD, apart=True)
    built.trainer.caching = caching
    built.trainer.splits = replace(built.trainer.splits, **more)
    sizes = counted(built)
    built.train()
    return built, [line["train_loss"] for line in built.trainer.progress.history], sizes


@pytest.mark.parametrize("caching", [Caching(), Caching(budget=0)], ids=["memory", "disk"])
def test_the_losses_and_figures_are_those_without_and_the_encoder_runs_once(
    tiny: Build, tmp_path: Path, caching: Caching
) -> None:
    plain, losses, every = trained(tiny, "plain", Caching("off"))
    kept, same, once = trained(tiny, "kept", caching)
    assert same == pytest.approx(losses, rel=1e-5)
    first, second = (built.trainer.progress.results["head"] for built in (plain, kept))
    assert first["test_accuracy"] == second["test_accuracy"]
    assert first["test_loss"] == pytest.approx(second["test_loss"], rel=1e-5)
    assert (
        sum(once) <= 10 + 4 + 2 + 2 + 4
    )  # every image once, one more of each split to see its shape, the test at the end
    assert sum(every) >= 4 * (10 + 4)
    assert second["frozen"][0]["features"] == ("memory" if caching.budget is None else "disk")
    assert not (tmp_path / "kept/features").exists(), "what is not needed any more takes no space"


def test_a_batch_of_features_is_gone_as_soon_as_nobody_holds_it(tmp_path: Path) -> None:
    model = torch_convae.create("convae-classifier", classes=2, size=(8, 8))
    split = Split(torch.zeros((4, 1, 8, 8), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    for folder in (None, tmp_path / "features"):
        kept = Maker(model, Run(torch.device("cpu")), 2).keep(split, folder)
        gc.disable()
        try:
            ((features, *_),) = kept.batches([torch.tensor([2, 0])])
            gone = weakref.ref(features)
            del features, _
            assert gone() is None, "garbage that waits to be collected is memory"
        finally:
            gc.enable()


@pytest.mark.parametrize(("count", "where"), [(8, "memory"), (5000, "disk")])
def test_they_take_less_memory_than_training_everything_would(tmp_path: Path, count: int, where: str) -> None:
    model = torch_convae.create("convae-classifier", classes=2, size=(8, 8))
    freeze_all_but(model, ["head.*"])
    train_mode(model)
    split = Split(torch.zeros((count, 1, 8, 8), dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    phase = Phase(Stage("head", 4, 1e-2, train=("head.*",)), model, classification())
    splits, run = Splits(split, lambda *_: [], {}, 1), Run(torch.device("cpu"))
    maker = Maker(model, run, 1)
    need = estimate(run, phase, split.images[:1], split.targets[:1], everything=True)
    made = count * maker.row_bytes(split)
    assert (made < need.total - need.parameters) == (where == "memory")
    found = decide(phase, splits, maker, Caching(), 4, tmp_path)
    assert found.where == where, found.text


def test_where_they_are_kept_changes_no_bit(tiny: Build, same: Callable[..., bool]) -> None:
    assert same(trained(tiny, "one", Caching())[0].state, trained(tiny, "other", Caching(budget=0))[0].state)


def darker(images: Tensor, targets: Tensor, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """An augmentation that depends on the example and the epoch alone."""
    keep = 1 - ((indices * 7 + epoch * 3) % 5).view(-1, 1, 1, 1) / 20
    return (images * keep).to(torch.uint8), targets


def test_images_that_are_augmented_are_computed_anew_and_the_log_says_so(
    tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, sizes = trained(tiny, "run", Caching(), augment=darker)
    assert sum(sizes) >= 40
    assert "head: features are computed anew in every epoch: images are augmented at random" in capsys.readouterr().out


def test_views_of_augmented_images_are_kept_where_so_many_are_asked_for(
    tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    built, _, sizes = trained(tiny, "run", Caching("2"), augment=darker)
    assert "2 views of each image, and kept in memory" in capsys.readouterr().out
    assert sum(sizes) <= 2 * 10 + 4 + 2 + 4
    assert built.trainer.progress.results["head"]["frozen"][0]["features"] == "memory"


def test_an_encoder_that_trains_is_never_kept(tiny: Build) -> None:
    built = tiny(stages=(Stage("finetune", epochs=3, lr=1e-2),), apart=True)
    built.train()
    assert built.trainer.progress.results["finetune"]["frozen"][0]["features"] == "nowhere"


def test_a_loss_that_looks_at_the_images_is_given_them(tiny: Build, capsys: pytest.CaptureFixture[str]) -> None:
    built = tiny(apart=True)
    phase = replace(built.phases[1], task=replace(built.phases[1].task, needs_images=True))
    built.trainer.train([phase])
    assert "the loss looks at the images" in capsys.readouterr().out


def test_features_on_disk_that_were_being_written_are_not_believed(tiny: Build, same: Callable[..., bool]) -> None:
    whole, _, _ = trained(tiny, "whole", Caching(budget=0))
    broken = tiny("broken", stages=HEAD, apart=True)
    broken.trainer.caching = Caching(budget=0)
    sizes = counted(broken)

    def stop_in_the_middle(*_: object) -> None:
        if sum(sizes) > 6:
            raise MemoryError

    hook = broken.models["classifier"].encoder.register_forward_hook(stop_in_the_middle)
    with pytest.raises(MemoryError):
        broken.train()
    hook.remove()
    folder = broken.trainer.folder.features
    assert list(folder.rglob("*.bin"))
    assert not list(folder.rglob("complete.json"))
    again, _, _ = trained(tiny, "broken", Caching(budget=0))
    assert same(again.state, whole.state)


def test_the_frozen_part_still_is_what_it_was(tiny: Build) -> None:
    built = tiny(stages=HEAD, apart=True)
    before: dict[str, Tensor] = {}

    def note(phase: Phase, _: object) -> None:
        state = {name: each.clone() for name, each in built.models["classifier"].encoder.state_dict().items()}
        if phase.stage.name == "pretrain":
            before.update(state)
        else:
            assert all(torch.equal(before[name], each) for name, each in state.items())

    built.trainer.finished = note
    built.train()
    assert before


def test_an_encoder_that_draws_random_numbers_by_itself_is_run_every_time(
    tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dropout as a function goes by the network's own mode, and that trains."""
    built = tiny("run", stages=HEAD, apart=True)
    classifier = built.models["classifier"]
    plain = classifier.encode
    classifier.encode = lambda x: torch.nn.functional.dropout(plain(x), 0.5, classifier.training)
    sizes = counted(built)
    built.train()
    assert sum(sizes) >= 4 * (10 + 4)
    assert "computed anew in every epoch: the network draws random numbers" in capsys.readouterr().out


def test_an_encoder_whose_batch_norm_looks_at_batches_is_run_every_time(
    tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tiny("run", stages=HEAD, apart=True)
    for network in built.models.values():
        network.encoder[1] = torch.nn.BatchNorm2d(4, track_running_stats=False)
    sizes = counted(built)
    built.train()
    assert sum(sizes) >= 4 * (10 + 4)
    assert "a BatchNorm that keeps no statistics looks at the whole batch" in capsys.readouterr().out
