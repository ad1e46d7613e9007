"""Other ways to compute a step: they give what the plain way gives, and a run goes on with them as exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_convae.errors import ConvaeError
from torch_convae.training import Interrupted, Run, Stage, Wanted, evaluate
from torch_convae.training.average import Average
from torch_convae.training.best import Best, asked_for, judged
from torch_convae.training.optimisation import optimizer_for
from torch_convae.training.recompute import blocks, recompute

CPU = torch.device("cpu")
ONE = (Stage("pretrain", epochs=2, lr=1e-2, batch_statistics=False),)  # parts of a batch have other statistics


def losses(tiny: Any) -> list[float]:
    return [line["train_loss"] for line in tiny.trainer.progress.history]


def without_dropout(tiny: Any) -> Any:
    """Dropout draws for each part anew."""
    for layer in tiny.models.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return tiny


def test_a_step_in_parts_is_the_same_step(tiny: Callable[..., Any]) -> None:
    plain = without_dropout(tiny("plain", ONE))
    parts = without_dropout(tiny("parts", ONE, run=Run(CPU, accumulate=3)))  # 4 images as 2, 1 and 1; and 2 as 1 and 1
    plain.train()
    parts.train()
    assert losses(parts) == pytest.approx(losses(plain), rel=1e-5)
    for name, tensor in plain.state.items():
        torch.testing.assert_close(parts.state[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_fused_adam_takes_the_steps_of_the_plain_one(decay: float) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.ones(5))]
    plain = [nn.Parameter(each.detach().clone()) for each in ours]
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    fused = optimizer_for(Stage("all", 1, 1e-2, weight_decay=decay), ours)
    assert fused.defaults["fused"]
    other = kind(plain, lr=1e-2, eps=1e-7, weight_decay=decay, fused=False, foreach=False)
    for step in range(20):
        for one, two in zip(ours, plain, strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step))
            two.grad = one.grad.clone()
        fused.step()
        other.step()
    for one, two in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_computing_again_gives_the_same_bits(
    tiny: Callable[..., Any], same: Callable[[dict[str, Tensor], dict[str, Tensor]], bool]
) -> None:
    plain = tiny("plain")
    plain.train()
    again = tiny("again", run=Run(CPU, recompute=True))
    again.train()
    assert same(plain.state, again.state), "running statistics or Dropout were not what they were the first time"
    assert blocks(again.models["classifier"]), "nothing was computed again"


def test_computing_again_keeps_less() -> None:
    def kept(model: nn.Module) -> int:
        found: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            found[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.rand(2, 3, 32, 32))
        return sum(found.values()) - sum(parameter.nbytes for parameter in model.parameters())

    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3)) for _ in "abc"])
    plain = kept(model)
    recompute(model)
    assert kept(model) < plain


def test_float16_learns_what_float32_learns(tiny: Callable[..., Any]) -> None:
    plain = without_dropout(tiny("plain", ONE))
    half = without_dropout(tiny("half", ONE, run=Run(CPU, precision="float16")))
    plain.train()
    half.train()
    assert losses(half) == pytest.approx(losses(plain), rel=2e-2)
    assert half.trainer.run.scaler().is_enabled()
    assert not plain.trainer.run.scaler().is_enabled()


def test_averaged_weights_are_the_average_of_the_steps() -> None:
    weight = nn.Parameter(torch.zeros(2))
    average = Average(0.5, {"weight": weight})
    expected = torch.zeros(2)
    for step in (1, 2, 30):
        with torch.no_grad():
            weight.fill_(float(step))
        average.update()
        decay = min(0.5, (1 + average.steps) / (10 + average.steps))
        expected = expected * decay + step * (1 - decay)
    with average.in_place():
        torch.testing.assert_close(weight.detach(), expected)
    assert weight.tolist() == [30, 30], "training goes on with its own weights"
    average.settle()
    torch.testing.assert_close(weight.detach(), expected)


def test_what_was_measured_with_averaged_weights_is_kept(tiny: Callable[..., Any]) -> None:
    plain = tiny("plain")
    plain.train()
    averaged = tiny("averaged")
    averaged.trainer.ema = 0.9
    results = averaged.train()
    state = averaged.state
    assert not torch.equal(state["classifier.head.1.weight"], plain.state["classifier.head.1.weight"])
    last = averaged.trainer.progress.history[-1]
    assert results["finetune"]["test_loss"] == last["test_loss"]
    figures, _ = evaluate(averaged.phases[-1], averaged.trainer.splits.measured["test"], Run(CPU), 4)
    assert figures["loss"] == pytest.approx(last["test_loss"], rel=1e-6), "other weights are left than were measured"


STAGES = (
    Stage("pretrain", epochs=1, lr=1e-2),
    Stage("head", epochs=2, lr=1e-2, train=("head.*",), decay=True),
    Stage("finetune", epochs=2, lr=1e-3, batch_statistics=False),
)
WAYS: dict[str, dict[str, Any]] = {
    "averaged weights and the best epoch": {"ema": 0.9, "wanted": Wanted("test_loss", keep=True, patience=1)},
    "float16 in parts, computed again": {"run": Run(CPU, precision="float16", accumulate=2, recompute=True)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_bit_for_bit(
    way: str, tiny: Callable[..., Any], same: Callable[[dict[str, Tensor], dict[str, Tensor]], bool]
) -> None:
    def begin(name: str) -> Any:
        stages = (*ONE, replace(ONE[0], name="finetune")) if "parts" in way else STAGES
        made = tiny(name, stages, run=WAYS[way].get("run"))
        for key, value in WAYS[way].items():
            setattr(made.trainer, key, value)
        return made

    whole = begin("whole")
    whole.train()
    for last in (1, 4, 8):
        broken = begin(f"broken{last}")
        note, seen = broken.trainer._note, []

        def stop(row: Tensor, broken: Any = broken, note: Any = note, seen: Any = seen, last: int = last) -> None:
            note(row)
            seen.append(row)
            broken.trainer.stop.signal = 15 if len(seen) == last else None

        broken.trainer._note = stop
        with pytest.raises(Interrupted):
            broken.train()
        again = begin(f"broken{last}")
        again.train()
        assert same(whole.state, again.state), last


def test_a_stage_ends_with_its_best_epoch(tiny: Callable[..., Any]) -> None:
    stages = (Stage("pretrain", epochs=6, lr=0.3),)  # a rate at which it gets worse now and then
    made = tiny("run", stages)
    made.trainer.wanted = Wanted("test_loss", keep=True)
    results = made.train()
    seen = [line["test_loss"] for line in made.trainer.progress.history]
    assert results["pretrain"]["test_loss"] == min(seen)
    assert results["pretrain"]["best_epoch"] == seen.index(min(seen)) + 1
    assert results["pretrain"]["epochs_done"] == 6


def test_a_stage_ends_when_patience_does(tiny: Callable[..., Any]) -> None:
    stages = (Stage("pretrain", epochs=50, lr=0.5), Stage("head", epochs=1, lr=1e-2, train=("head.*",)))
    made = tiny("run", stages)
    made.trainer.wanted = Wanted("train_loss", patience=2)
    results = made.train()
    seen = [line["train_loss"] for line in made.trainer.progress.history if line["stage"] == "pretrain"]
    assert len(seen) == results["pretrain"]["epochs_done"] < 50
    assert len(seen) - 1 - seen.index(min(seen)) == 2
    assert results["head"]["epochs_done"] == 1


def test_a_loss_and_an_error_are_better_when_smaller_and_all_else_when_larger() -> None:
    def after(metric: str, *values: float) -> Best:
        best = Best()
        for epoch, value in enumerate(values):
            best = judged(Wanted(metric), best, {metric: value}, epoch, dict)
        return best

    assert after("val_loss", 3.0, 1.0, 2.0).epoch == 1
    assert after("test_rmse", 3.0, 1.0, 2.0).epoch == 1
    assert after("val_accuracy", 0.1, 0.3, 0.2).epoch == 1
    assert after("val_accuracy", 0.3, 0.3).epoch == 0, "as good is not better"
    assert judged(Wanted("val_accuracy"), Best(), {"train_loss": 1.0}, 0, dict) == Best()


def test_a_figure_that_nothing_measures_is_refused_with_the_list(tiny: Callable[..., Any]) -> None:
    phases = tiny("run").phases
    with pytest.raises(ConvaeError, match="takes one of train_loss, test_loss, test_accuracy"):
        asked_for("val_accuracy", None, phases, "test")


def test_patience_alone_is_with_the_watched_loss_and_keeps_no_epoch(tiny: Callable[..., Any]) -> None:
    phases = tiny("run").phases
    assert asked_for(None, 3, phases, "test") == Wanted("test_loss", keep=False, patience=3)
    assert asked_for(None, 3, phases, None) == Wanted("train_loss", keep=False, patience=3)
    assert asked_for("test_accuracy", None, phases, "test") == Wanted("test_accuracy", keep=True)
    assert asked_for(None, None, phases, "test") is None


def test_the_command_line_knows_them_all(train: Any, class_folder: Path, tmp_path: Path) -> None:
    options = ("--ema", 0.9, "--best", "test_accuracy", "--patience", 1, "--tensorboard", "--accumulate", 2)
    answer = train("--data", class_folder, "--epochs", "0,2,0", "--batch-size", 12, *options, "--recompute")
    assert answer.code == 0, answer
    assert list((tmp_path / "runs" / "convae" / "tensorboard").glob("events*"))


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_mistyped_figure_is_refused_before_anything_is_written(
    dry: tuple[str, ...], refused: Callable[..., str], class_folder: Path
) -> None:
    said = refused("--data", class_folder, "--best", "test_acuracy", *dry)
    assert "Nothing measures 'test_acuracy'" in said
    assert "test_accuracy" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ema", 1), "between 0 and 1"),
        (("--patience", 0), "at least 1"),
        (("--accumulate", 0), "at least 1"),
        (("--compile", "--recompute"), "Leave out --recompute"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    options: tuple[object, ...], said: str, refused: Callable[..., str]
) -> None:
    assert said in refused(*options)
