"""The loop on tiny networks: what is frozen stays, and a run that was stopped anywhere goes on bit for bit."""

import hashlib
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_convae import ConvaeError
from torch_convae.data import VOID, Split
from torch_convae.training import (
    Diverged,
    Interrupted,
    Mean,
    Phase,
    Run,
    Stage,
    Task,
    Trainer,
    class_loss,
    evaluate,
    train_mode,
)
from torch_convae.training.archive import read_archive

Build = Callable[..., Any]
Same = Callable[[dict[str, Tensor], dict[str, Tensor]], bool]


def digests(module: nn.Module) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        for name, tensor in module.state_dict().items()
    }


def after_each_phase(tiny: Any) -> dict[str, dict[str, str]]:
    """Trains, and hashes the whole of the classifier when each phase ends."""
    seen: dict[str, dict[str, str]] = {}
    tiny.trainer.finished = lambda phase, _: seen.update({phase.stage.name: digests(tiny.models["classifier"])})
    tiny.train()
    return seen


def test_after_the_head_every_encoder_tensor_is_bit_equal_to_before(tiny: Build) -> None:
    seen = after_each_phase(tiny())
    encoder = {name for name in seen["head"] if name.startswith("encoder.")}
    statistics = {"encoder.1.running_mean", "encoder.1.running_var", "encoder.1.num_batches_tracked"}
    assert statistics | {"encoder.0.weight", "encoder.1.weight"} <= encoder
    moved = {name for name in seen["head"] if seen["head"][name] != seen["pretrain"][name]}
    assert not moved & encoder
    assert moved >= {"head.1.weight", "head.2.running_mean", "head.4.bias"}


def test_fine_tuning_moves_every_weight_but_no_running_statistics(tiny: Build) -> None:
    seen = after_each_phase(tiny())
    moved = {name for name in seen["head"] if seen["finetune"][name] != seen["head"][name]}
    buffers = {name for name in seen["head"] if "running" in name or "num_batches" in name}
    assert moved == seen["head"].keys() - buffers


def test_pretraining_moves_the_running_statistics_of_the_encoder(tiny: Build) -> None:
    built = tiny()
    before = digests(built.models["classifier"])
    after = after_each_phase(built)["pretrain"]
    assert before["encoder.1.running_mean"] != after["encoder.1.running_mean"]
    assert before["head.1.weight"] == after["head.1.weight"]


def test_the_optimizer_of_the_head_holds_nothing_of_the_encoder(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[set[int]] = []
    original = torch.optim.Adam.__init__

    def note(self: Any, groups: list[dict[str, Any]], **options: Any) -> None:
        held.append({id(parameter) for group in groups for parameter in group["params"]})
        original(self, groups, **options)

    monkeypatch.setattr(torch.optim.Adam, "__init__", note)
    built = tiny()
    built.train()
    classifier = built.models["classifier"]
    assert held[1] == {id(parameter) for parameter in classifier.head.parameters()}
    assert held[2] == {id(parameter) for parameter in classifier.parameters()}


def test_the_images_of_a_frozen_encoder_are_the_same_in_every_epoch(tiny: Build) -> None:
    built = tiny()
    given: list[Tensor] = []
    images = built.trainer.splits.train.images

    def probe(_: Phase, __: Tensor | None) -> None:
        train_mode(built.models["classifier"])
        with torch.no_grad():
            given.append(built.models["classifier"].encoder(images.float() / 255))

    built.phases = built.phases[:2]
    built.trainer.finished = probe
    built.train()
    assert torch.equal(*given) is False, "the first probe has Dropout on: pretraining releases the encoder"
    with torch.no_grad():
        again = built.models["classifier"].encoder(images.float() / 255)
    assert torch.equal(given[1], again)


def broken(monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Module], object]) -> None:
    """Makes the trainer's own switch to training mode do some more."""

    def spoil(model: nn.Module, batch_statistics: Any = True) -> None:
        train_mode(model, batch_statistics)
        change(model)

    monkeypatch.setattr("torch_convae.training.segments.train_mode", spoil)


def test_a_batch_norm_that_is_forced_into_training_mode_is_noticed(
    tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tiny()
    built.phases = built.phases[1:]
    calls: list[int] = []

    def thaw(model: nn.Module) -> None:  # after the hash was taken, as by a careless model.train() in a forward
        calls.append(1)
        model.get_submodule("encoder.1").train(1 < len(calls) < 4)

    broken(monkeypatch, thaw)
    with pytest.raises(ConvaeError, match="head changed tensors that were frozen"):
        built.train()


def test_a_frozen_weight_that_something_moves_is_noticed(tiny: Build) -> None:
    built = tiny()
    built.phases = built.phases[1:]
    classifier = built.models["classifier"]

    def move(*_: object) -> None:
        with torch.no_grad():
            classifier.encoder[0].weight[0, 0, 0, 0] += 1e-6

    classifier.head.register_forward_hook(move)
    with pytest.raises(ConvaeError, match="head changed tensors that were frozen"):
        built.train()


def count_forwards(built: Any, ask_at: int | None = None, measuring: bool = True) -> list[int]:
    """Counts every pass through a network, in training and measuring alike, and asks for a stop in one of them."""
    count: list[int] = []

    def hook(model: nn.Module, *_: object) -> None:
        if not measuring and not model.training:
            return
        count.append(1)
        if len(count) == ask_at:
            built.trainer.stop.signal = signal.SIGINT

    for model in built.models.values():
        model.register_forward_hook(hook)
    return count


def figures(folder: Path, results: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The metrics and results, but for the time and the memory they took."""
    spent = ("seconds", "peak_memory")
    without = {stage: {key: of[key] for key in of if key not in spent} for stage, of in results.items()}
    return (folder / "metrics.jsonl").read_text(), without


def test_a_run_stopped_at_any_moment_goes_on_to_the_same_bits(tiny: Build, same: Same, tmp_path: Path) -> None:
    whole = tiny("whole")
    passes = count_forwards(whole)
    expected = figures(tmp_path / "whole", whole.train())
    assert len(passes) > 18, "three steps an epoch, two epochs a stage, three stages, and the measuring between"
    for moment in range(1, len(passes) + 1):
        name = f"stopped{moment}"
        first = tiny(name)
        count_forwards(first, ask_at=moment)
        with pytest.raises(Interrupted, match="SIGINT"):
            first.train()
        torch.manual_seed(12345)  # a new process begins with other random numbers
        second = tiny(name, seed=99)  # and other weights, which the checkpoint replaces
        assert figures(tmp_path / name, second.train()) == expected, moment
        assert same(second.state, whole.state), moment


def test_a_run_stopped_after_every_single_step_comes_to_the_same_bits(tiny: Build, same: Same) -> None:
    whole = tiny("whole")
    whole.train()
    starts = 0
    while True:
        starts += 1
        assert starts < 50, "it does not come forward"
        built = tiny("run", seed=starts - 1)  # the first with the same weights, all others go on from where it was
        count_forwards(built, ask_at=1, measuring=False)
        try:
            built.train()
            break
        except Interrupted:
            continue
    assert starts > 18
    assert same(built.state, whole.state)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tiny: Build, same: Same) -> None:
    states, losses = [], []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        built = tiny(name, seed=seed)
        losses.append(built.train()["finetune"]["test_loss"])
        states.append(built.state)
    assert same(states[0], states[1])
    assert losses[0] == losses[1]
    differ = [name for name in states[0] if not torch.equal(states[0][name], states[2][name])]
    assert len(differ) > 10


def test_what_is_learnt_shows_in_the_loss(tiny: Build, tmp_path: Path) -> None:
    tiny(stages=(Stage("pretrain", epochs=8, lr=1e-2),)).train()
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 8
    assert losses[-1] < losses[0] / 2


def test_the_loop_computes_what_a_plain_loop_computes(tiny: Build, same: Same) -> None:
    built = tiny(stages=(Stage("finetune", epochs=2, lr=1e-2, batch_statistics=False),))
    plain = tiny("plain").models["classifier"]
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, eps=1e-7, fused=True)
    images, labels = built.trainer.splits.train.images, built.trainer.splits.train.targets
    for epoch in range(2):
        plain.train()
        for layer in plain.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.eval()
        for batch in built.trainer.splits.order(0, epoch):
            optimizer.zero_grad()
            F.cross_entropy(plain(images[batch].float() / 255), labels[batch]).backward()
            optimizer.step()
    torch.manual_seed(5)
    built.train()
    assert same(dict(built.models["classifier"].state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize(
    "run",
    [
        Run(torch.device("cpu"), "bfloat16"),
        Run(torch.device("cpu"), "float32", "channels-last"),
        Run(torch.device("cpu"), "bfloat16", "channels-last"),
    ],
)
def test_precision_and_layout_give_losses_near_the_plain_ones(tiny: Build, run: Run) -> None:
    # Dropout draws in memory order, so that another layout drops other values: left out here.
    untrained, losses = [], []
    for name, how in (("plain", None), ("other", run)):
        built = tiny(name, run=how)
        for layer in built.models.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        trainer = built.trainer
        trainer.run.prepare(built.phases[2].model)
        untrained.append(evaluate(built.phases[2], trainer.splits.train, trainer.run, 4)[0]["loss"])
        losses.append([of["test_loss"] for of in built.train().values()])
    rough = run.precision == "bfloat16"
    assert untrained[1] == pytest.approx(untrained[0], rel=1e-2 if rough else 1e-6)
    # A bias before BatchNorm has a gradient of mere rounding errors, which Adam makes steps of.
    assert losses[1] == pytest.approx(losses[0], rel=0.1 if rough else 0.03)
    assert not rough or losses[0] != losses[1], "bfloat16 did not take part"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_saved(tiny: Build, tmp_path: Path) -> None:
    stages = (Stage("pretrain", epochs=1, lr=1e-3), Stage("finetune", epochs=3, lr=1e30))
    with pytest.raises(Diverged, match=r"finetune is (nan|inf).*in epoch 1, again.*--lr than 1e\+30"):
        tiny(stages=stages).train()
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 1
    kept = read_archive(tmp_path / "run/checkpoint.safetensors")
    assert kept is not None
    assert kept["progress"]["phase"] == 1
    assert all(tensor.isfinite().all() for tensor in kept["weights"].values())


def test_weights_that_the_last_step_has_spoilt_are_noticed(tiny: Build, tmp_path: Path) -> None:
    built = tiny(stages=(Stage("pretrain", epochs=1, lr=1e-3), Stage("finetune", epochs=1, lr=1e-3)))
    steps: list[int] = []

    def spoil(*_: object) -> None:
        steps.append(1)
        if len(steps) % 3 == 0:  # again when the guard has gone back
            with torch.no_grad():
                built.models["classifier"].head[4].bias.fill_(float("nan"))

    built.models["classifier"].head[4].bias.register_post_accumulate_grad_hook(spoil)
    with pytest.raises(Diverged, match="finetune is nan"):
        built.train()
    kept = read_archive(tmp_path / "run/checkpoint.safetensors")
    assert kept is not None
    assert all(tensor.isfinite().all() for tensor in kept["weights"].values())


def test_a_batch_of_nothing_but_void_counts_for_nothing() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = class_loss(void=VOID)(logits, torch.full((2, 4, 4), VOID, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_loss_of_masks_is_the_mean_over_what_is_not_void() -> None:
    numbers = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=numbers)
    masks = torch.randint(0, 3, (2, 4, 4), generator=numbers).to(torch.uint8)
    masks[0, :2] = VOID
    loss = class_loss(void=VOID)(logits, masks)
    shares = logits.log_softmax(1).permute(0, 2, 3, 1)[masks != VOID]
    expected = -shares[torch.arange(len(shares)), masks[masks != VOID].long()].mean()
    torch.testing.assert_close(loss, expected)


def test_measuring_weighs_every_image_alike_whatever_the_batches(tiny: Build) -> None:
    built = tiny()
    phase, examples = built.phases[2], built.trainer.splits.train
    one, counts = evaluate(phase, examples, built.trainer.run, batch_size=10)
    other, others = evaluate(phase, examples, built.trainer.run, batch_size=3)
    assert one == pytest.approx(other, rel=1e-6)
    assert torch.equal(counts, others)
    assert int(counts.sum()) == 10


def test_a_run_goes_on_only_with_the_data_it_began_with(tiny: Build) -> None:
    first = tiny()
    count_forwards(first, ask_at=2)
    with pytest.raises(Interrupted):
        first.train()
    second = tiny()
    train = second.trainer.splits.train
    second.trainer.splits = replace(second.trainer.splits, train=Split(train.images[:9], train.targets[:9]))
    with pytest.raises(ConvaeError, match=r"other data.*train \[10, 1, 6, 6\] -> \[9, 1, 6, 6\].*--fresh"):
        second.train()


def test_a_task_without_figures_has_no_confusion_matrix(tiny: Build) -> None:
    built = tiny()
    task = Task(Mean(lambda output, images, _: F.mse_loss(output, images)))
    found, counts = evaluate(
        Phase(built.phases[0].stage, built.models["autoencoder"], task),
        built.trainer.splits.train,
        built.trainer.run,
        4,
    )
    assert counts is None
    assert found.keys() == {"loss"}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tiny: Build, same: Same, tmp_path: Path) -> None:
    whole = tiny("whole")
    whole.train()
    for way, spoil in SPOILERS.items():
        first = tiny(way)
        count_forwards(first, ask_at=12)
        with pytest.raises(Interrupted):
            first.train()
        path = tmp_path / way / "checkpoint.safetensors"
        path.write_bytes(spoil(path.read_bytes()))
        assert first.trainer.folder.restore() is not None
        second = tiny(way, seed=3)
        second.train()
        assert same(second.state, whole.state), way


def _flipped(data: bytes) -> bytes:
    """One bit of a tensor's numbers: the file still opens."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


SPOILERS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "flipped": _flipped,
    "zeros": lambda data: bytes(len(data)),
    "text": lambda _: b"not a checkpoint",
}


def test_when_both_checkpoints_are_damaged_the_run_says_so(tiny: Build, tmp_path: Path) -> None:
    first = tiny()
    first.train()
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (tmp_path / "run" / name).write_bytes(b"damaged")
    with pytest.raises(ConvaeError, match=r"checkpoint\.safetensors is damaged, and so is any before.*--fresh"):
        tiny().train()


def test_only_whole_files_are_left_in_the_folder(tiny: Build, tmp_path: Path) -> None:
    built = tiny()
    assert isinstance(built.trainer, Trainer)
    built.train()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "metrics.jsonl",
        "checkpoint.safetensors",
        "checkpoint.previous.safetensors",
        "checkpoint.good.safetensors",
    }
