"""Two processes train as one would: real ones, that talk by gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch import nn

import torch_convae
from torch_convae.training.batch_norm import synchronise

ROOT = Path(__file__).resolve().parents[2]
# A small first rate: Adam blows up what is rounding in front of a BatchNorm. 24 images make two batches of 10 and one
# of 4, each of them two shares; 6 are measured on.
SHORT = ("--epochs", "1,1,1", "--lr", "1e-6,1e-3,1e-4", "--batch-size", "10", "--parallel", "sync-batch-norm")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(commands: Any, *arguments: object, count: int = 2) -> list[tuple[int, int]]:
    """So many processes of one run, each told what torchrun would tell it."""
    port, started = free_port(), []
    for rank in range(count):
        told = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        commands.environment = {name: str(value) for name, value in told.items()}
        started.append(commands.start(*arguments))
    commands.environment = {}
    return started


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[[Path], Any], class_folder: Path) -> Any:
    """Starts commands in a folder where two processes have made one run."""
    commands = train_in(tmp_path_factory.mktemp("ranks"))
    first, other = map(commands.wait, start(commands, "--data", class_folder, *SHORT, "--out", "two"))
    assert (first.code, first.err) == (0, ""), first
    assert (other.code, other.out, other.err) == (0, "", ""), "the second process has something to say"
    assert first.out.count("finetune") == 1
    return commands


def test_two_processes_learn_what_one_learns(commands: Any, class_folder: Path) -> None:
    answer, folder = commands("--data", class_folder, *SHORT, "--out", "one"), commands.folder
    assert answer.code == 0, answer
    one, two = history(folder / "one"), history(folder / "two")
    assert [line.keys() for line in one] == [line.keys() for line in two]
    for before, after in zip(one, two, strict=True):
        for name in (name for name, value in before.items() if isinstance(value, float)):
            assert after[name] == pytest.approx(before[name], rel=1e-5, abs=1e-6), (before["stage"], name)
    weights = [load_file(folder / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        difference = (weights[1][name].double() - tensor.double()).abs()
        # Adam makes a whole step of a gradient that is nothing but rounding, so single weights may differ by one.
        assert (float(difference.mean()) < 1e-6, float(difference.max()) < 5e-4) == (True, True), name
    counts = [json.loads((folder / name / "confusion.json").read_text())["counts"] for name in ("one", "two")]
    assert [sum(map(sum, each)) for each in counts] == [6, 6], "each image is measured once"


@pytest.mark.parametrize("momentum", [None, 0.1])
def test_statistics_of_all_processes_are_remembered_as_pytorch_does(momentum: float | None) -> None:
    plain, ours = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        synchronise(ours)
        for batch in torch.randn(4, 2, 3, 5, 5) * 3 + 1:
            torch.testing.assert_close(ours(batch), plain(batch))
    finally:
        dist.destroy_process_group()
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


@pytest.mark.parametrize("parts", [1, 2])
def test_two_processes_take_dice_over_the_whole_batch(commands: Any, class_folder: Path, parts: int) -> None:
    # Head alone: on an encoder that is frozen, no statistics are of a share of the batch.
    options = ("--data", class_folder, "--epochs", "0,3,0", "--loss", "cross-entropy+dice", "--dropout", "0")
    options += ("--batch-size", "8", "--class-weights", "1,3,2", "--cache", "off")
    answer, folder = commands(*options, "--out", f"one{parts}"), commands.folder
    assert answer.code == 0, answer
    shared = (*options, "--accumulate", parts, "--out", f"shared{parts}")
    assert [commands.wait(one).code for one in start(commands, *shared)] == [0, 0]
    for before, after in zip(history(folder / f"one{parts}"), history(folder / f"shared{parts}"), strict=True):
        for name in (name for name, value in before.items() if isinstance(value, float)):
            assert after[name] == pytest.approx(before[name], rel=1e-4), (before["epoch"], name)


def test_two_processes_that_each_have_readers_of_files_learn_the_same(commands: Any, class_folder: Path) -> None:
    read = ("--data", class_folder, *SHORT, "--workers", "1", "--out", "read")
    for answer in map(commands.wait, start(commands, *read)):
        assert (answer.code, answer.err) == (0, ""), answer
    folder = commands.folder
    one, other = (load_file(folder / name / "model.safetensors") for name in ("two", "read"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert history(folder / "two") == history(folder / "read")


def test_a_refusal_is_said_once(train: Any, class_folder: Path) -> None:
    first, other = map(train.wait, start(train, "--data", class_folder, "--batch-size", 1))
    assert (first.code, other.code, other.err) == (2, 2, "")
    assert "2 processes" in first.line


def test_a_process_that_dies_ends_the_run_with_a_line_and_it_goes_on_bit_for_bit(
    commands: Any, class_folder: Path
) -> None:
    options, folder = ("--data", class_folder, *SHORT, "--out", "killed"), commands.folder
    first, other = start(commands, *options)
    while "pretrain" not in commands.output(first):
        time.sleep(0.05)
    os.kill(other[0], signal.SIGKILL)
    lost, _ = commands.wait(first), commands.wait(other)
    assert lost.code == 1, lost
    assert "another process of the run has ended" in lost.line
    assert [commands.wait(one).code for one in start(commands, *options)] == [0, 0]
    assert history(folder / "killed") == history(folder / "two")
    weights = [load_file(folder / name / "model.safetensors") for name in ("two", "killed")]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())


def test_layers_in_shards_learn_what_whole_ones_do_and_go_on_bit_for_bit(commands: Any, class_folder: Path) -> None:
    # Five at a time: the sixth image that is measured is one that only one process has a share in.
    options = ("--data", class_folder, *SHORT[:-2], "--batch-size", "5", "--release", "blocks", "--epochs", "1,1,4")
    options += ("--ema", "0.5", "--clip", "1", "--best", "train_loss", "--lr", "1e-6,1e-4,1e-5")
    sharded, folder = (*options, "--parallel", "sync-batch-norm,shard"), commands.folder
    plain = commands(*options, "--parallel", "sync-batch-norm", "--out", "plain")
    assert plain.code == 0, plain
    first, other = map(commands.wait, start(commands, *sharded, "--out", "shards"))
    assert (first.code, first.err, other.code, other.err) == (0, "", 0, ""), (first, other)
    for before, after in zip(history(folder / "plain"), history(folder / "shards"), strict=True):
        for name in (name for name, value in before.items() if isinstance(value, float)):
            assert after[name] == pytest.approx(before[name], rel=1e-3, abs=1e-4), (before["stage"], name)
    summary = json.loads((folder / "shards" / "summary.json").read_text())
    kept = [stage["frozen"][0] for stage in summary["stages"].values()]
    assert all(each["frozen_sha256_start"] == each["frozen_sha256_end"] for each in kept)
    assert kept[1]["frozen_sha256_start"] != "nothing"

    first, other = start(commands, *sharded, "--out", "cut")
    while "head" not in commands.output(first):
        time.sleep(0.05)
    os.kill(other[0], signal.SIGKILL)
    lost, _ = commands.wait(first), commands.wait(other)
    assert lost.code == 1, lost
    assert [commands.wait(one).code for one in start(commands, *sharded, "--out", "cut")] == [0, 0]
    assert history(folder / "cut") == history(folder / "shards")
    weights = [load_file(folder / name / "model.safetensors") for name in ("shards", "cut")]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())
    assert torch_convae.load(folder / "shards").training is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--parallel", "shards"), "--parallel has no 'shards'. There are sync-batch-norm and shard."),
        (("--parallel", "shard", "--compile"), "--parallel shard does not go with --compile"),
        (("--parallel", "shard", "--precision", "float16"), "--parallel shard does not go with float16"),
    ],
)
def test_what_shards_do_not_do_is_refused(train: Any, options: tuple[str, ...], message: str) -> None:
    answer = train(*options)
    assert answer.code == 2
    assert message in answer.line


def test_a_network_with_a_recurrent_layer_is_not_cut(train: Any) -> None:
    first, other = map(train.wait, start(train, "vae-gru", "--limit", "8", "--parallel", "shard"))
    assert (first.code, other.code, other.err) == (2, 2, "")
    assert "--parallel shard cannot cut the GRU 'gru'" in first.line
    assert not (train.folder / "runs/vae-gru/config.json").exists(), "a run that cannot be is not begun"


def torchrun(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A run of two processes that torchrun has started, once it is in its first stage."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command += ["--master-port", str(free_port()), "-m", "torch_convae.train", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(folder.glob("*/metrics.jsonl")):
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    return running


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
def test_torchrun_starts_a_run_again_whose_process_died(commands: Any, class_folder: Path, tmp_path: Path) -> None:
    running = torchrun(tmp_path, "--data", class_folder, *SHORT, "--out", "elastic")
    os.kill(children(running.pid)[-1], signal.SIGKILL)
    running.communicate(timeout=200)
    assert running.returncode == 0
    assert history(tmp_path / "elastic") == history(commands.folder / "two")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_no_process_outlives_a_torchrun_that_is_killed(class_folder: Path, tmp_path: Path) -> None:
    running = torchrun(tmp_path, "--data", class_folder, *SHORT[2:], "--epochs", "1000,1,1", "--out", "long")
    assert len(children(running.pid)) == 2
    running.kill()
    running.communicate(timeout=30)  # they hold the other ends of its pipes, and both are closed
