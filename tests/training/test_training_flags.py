"""The flags of releases, the guard, kept features and determinism, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ARGUMENTS = ("--epochs", "1,1,3", "--batch-size", "8", "--size", "8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--release nonsense", ["--release 'nonsense'", "PATTERN@EPOCH"]),
        ("--release encoder.*@0", ["'encoder.*@0'"]),
        ("--release encoder.*@1:fast", ["'fast'"]),
        ("--release encodr.*@1", ["'encodr.*' matches no parameter", "encoder.conv2d"]),
        ("--release encoder.*@3", ["finetune releases more in epoch 3, but its last is 1."]),
        ("--warmup 1.5", ["--warmup '1.5'", "whole"]),
        ("--clip -1", ["--clip", "-1"]),
        ("--guard maybe", ["--guard", "maybe"]),
        ("--optimizer-state lost", ["--optimizer-state", "lost"]),
        ("--cache sometimes", ["--cache 'sometimes'"]),
        ("--cache 0", ["--cache '0'"]),
        ("--cache auto:much", ["--cache 'auto:much'"]),
    ],
)
def test_a_wrong_value_is_refused_by_name(refused: Callable[..., str], arguments: str, named: list[str]) -> None:
    line = refused(*arguments.split(), "--limit", "20")
    for text in named:
        assert text in line


def test_blocks_are_released_the_last_first_at_falling_rates(train: Any, class_folder: Path, tmp_path: Path) -> None:
    flags = ("--release", "blocks", "--warmup", "2", "--clip", "1", "--optimizer-state", "kept")
    answer = train("--data", class_folder, "--out", "run", *ARGUMENTS, *flags)
    assert (answer.code, answer.err) == (0, "")
    stage = json.loads((tmp_path / "run/summary.json").read_text())["stages"]["finetune"]
    assert [group["epoch"] for group in stage["groups"]] == [1, 1, 2, 3]
    assert stage["groups"][0]["train"] == ["head.*"]
    assert "encoder.conv2d_7.*" in stage["groups"][1]["train"]
    assert "encoder.conv2d.*" in stage["groups"][3]["train"]
    rates = [group["lr"] for group in stage["groups"]]
    assert rates == sorted(rates, reverse=True)
    assert not any(group["batch_statistics"] for group in stage["groups"])
    assert [proof["first_epoch"] for proof in stage["frozen"]] == [1, 2, 3]
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["release"], config["warmup"], config["clip"]) == ("blocks", "2", "1")


def test_deterministic_computes_the_same_bits_on_a_cpu(train: Any, class_folder: Path, tmp_path: Path) -> None:
    for name, flags in (("plain", ()), ("strict", ("--deterministic",))):
        assert train("--data", class_folder, "--out", name, *ARGUMENTS, *flags).code == 0
    plain, strict = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "strict"))
    assert plain == strict


def begun(train: Any, run: Path, *command: object) -> tuple[int, int]:
    """A run that is in its first stage, or beyond."""
    started = train.start(*command)
    for _ in range(6000):
        if (run / "checkpoint.safetensors").exists():
            return started
        time.sleep(0.01)
    pytest.fail("it did not begin in a minute")


def test_other_contents_of_the_same_size_are_noticed(
    train: Any, drawn_classes: Callable[..., Path], tmp_path: Path
) -> None:
    drawn_classes(tmp_path / "bars")
    command = ("--data", "bars", "--out", "run", *ARGUMENTS)
    started = begun(train, tmp_path / "run", *command)
    os.kill(started[0], signal.SIGKILL)
    train.wait(started)
    path = tmp_path / "bars/class1/0.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)
    answer = train(*command)
    assert answer.code == 2
    assert "has the same shape, but other contents" in answer.line


def test_another_weights_file_of_the_same_name_is_noticed(train: Any, class_folder: Path, tmp_path: Path) -> None:
    first = ("--data", class_folder, "--limit", "12", "--size", "8", "--epochs", "1,0,0")
    assert train(*first, "--out", "first").code == 0
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((tmp_path / "first/model.safetensors").read_bytes())
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS, "--weights", weights)
    started = begun(train, tmp_path / "run", *command)
    os.kill(started[0], signal.SIGKILL)
    train.wait(started)
    assert train(*first, "--out", "second", "--seed", "1").code == 0
    weights.write_bytes((tmp_path / "second/model.safetensors").read_bytes())
    answer = train(*command)
    assert answer.code == 2
    assert "begun when the file of --weights had other contents" in answer.line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_comes_before_the_first_step_is_heeded(
    train: Any, class_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    started = train.start(*command)
    for _ in range(6000):
        if (tmp_path / "run/.lock").exists():
            break
        time.sleep(0.001)
    os.kill(started[0], number)
    answer = train.wait(started)
    assert answer.code == 128 + number
    assert answer.err.count("\n") == 1
    assert f"stopped by {number.name}" in answer.line
    assert train(*command).code == 0


STOPPED_WITH_A_FILE_IN_HAND = """
import os, signal
from torch_convae.training import Interrupted, graceful

def look() -> None:
    held = open(os.devnull)
    os.kill(os.getpid(), signal.SIGTERM)

try:
    with graceful():
        look()
except Interrupted as stopped:
    print(stopped)
"""


def test_a_stop_between_open_and_with_warns_of_no_file() -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "default", "-c", STOPPED_WITH_A_FILE_IN_HAND], capture_output=True, text=True, check=True
    )
    assert (answer.stdout, answer.stderr) == ("stopped by SIGTERM\n", "")


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def runs(process: int) -> bool:
    """Whether there is such a process, and it is more than a number that nobody asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_no_reading_process_outlives_a_killed_run_and_the_same_command_goes_on(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    command = ("--data", class_folder, *ARGUMENTS, "--augment", "flip")
    assert train(*command, "--out", "whole").code == 0
    started = begun(train, tmp_path / "run", *command, "--out", "run", "--workers", "1")
    readers: list[int] = []
    for _ in range(3000):
        if readers := children(started[0]):
            break
        time.sleep(0.005)
    assert readers
    os.kill(started[0], signal.SIGKILL)
    train.wait(started)
    for _ in range(500):
        if not any(map(runs, readers)):
            break
        time.sleep(0.01)
    assert not [reader for reader in readers if runs(reader)]
    assert train(*command, "--out", "run", "--workers", "1").code == 0
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert one == other, "workers, a kill or both changed what was learnt"


def test_a_reading_process_that_is_killed_is_one_line_and_the_same_command_goes_on(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    """As the system does that runs out of memory."""
    command = ("--data", class_folder, *ARGUMENTS, "--augment", "flip", "--workers", "1", "--out", "run")
    started = begun(train, tmp_path / "run", *command, "--epochs", "500,1,1")
    for _ in range(3000):
        if readers := children(started[0]):
            break
        time.sleep(0.005)
    os.kill(readers[0], signal.SIGKILL)
    answer = train.wait(started)
    assert answer.code == 1
    assert "a process that reads images has ended" in answer.line
    assert (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["convae", "unet"])
def test_a_run_killed_at_random_instants_comes_to_the_same_bits(
    train: Any, class_folder: Path, mask_folder: Path, tmp_path: Path, recipe: str
) -> None:
    data = class_folder if recipe == "convae" else mask_folder
    size = () if recipe == "convae" else ("--size", "16")
    epochs = "2,2,2" if recipe == "convae" else "2,2"
    command = (recipe, "--data", data, *size, "--epochs", epochs, "--batch-size", "4", "--workers", "1")
    command += ("--augment", "flip", "--cache", "auto:0")
    assert train(*command, "--out", "whole").code == 0
    numbers = np.random.default_rng(0)
    for _ in range(60):
        started = train.start(*command, "--out", "run")
        time.sleep(float(numbers.uniform(0.2, 6)))
        os.kill(started[0], signal.SIGKILL)
        if train.wait(started).code == 0:
            break
    else:
        assert train(*command, "--out", "run").code == 0
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
