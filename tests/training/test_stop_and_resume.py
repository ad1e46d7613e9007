"""Real processes, stopped by real signals: the same command again comes to the bits of an unbroken run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ("--epochs", "2,2,2", "--batch-size", "5", "--size", "8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, class_folder: Path, train_in: Callable[[Path], Any]) -> Path:
    """An unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    answer = train_in(folder)("--data", class_folder, "--out", "run", *ARGUMENTS)
    assert (answer.code, answer.err) == (0, "")
    return folder / "run"


def until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come to that in 30 seconds")


def interrupted(train: Any, run: Path, number: int, after: str, *arguments: object) -> Any:
    """Starts a run and sends the signal once a line of its output begins with `after`."""
    started = train.start(*arguments)
    until(lambda: f"\n{after}" in train.output(started))
    os.kill(started[0], number)
    answer = train.wait(started)
    assert not (run / "summary.json").exists(), "the run was through before the signal came"
    return answer


def same_end(run: Path, whole: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (run, whole))
    assert ours["test_accuracy"] == theirs["test_accuracy"]
    assert ours["stages"]["head"]["frozen_sha256"] == theirs["stages"]["head"]["frozen_sha256"]
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, "pretrain 1/2"), (signal.SIGTERM, "head 1/2")])
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_bits(
    train: Any, class_folder: Path, tmp_path: Path, whole: Path, number: signal.Signals, after: str
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    stopped = interrupted(train, tmp_path / "run", number, after, *command)
    assert stopped.code == 128 + number
    assert f"stopped by {number.name}; the same command goes on from here" in stopped.line
    assert (tmp_path / "run/checkpoint.safetensors").exists()
    again = train(*command)
    assert (again.code, again.err) == (0, "")
    assert f"\n{after}" not in again.out, "it began again instead of going on"
    same_end(tmp_path / "run", whole)


def test_a_run_that_was_killed_twice_goes_on_to_the_same_bits(
    train: Any, class_folder: Path, tmp_path: Path, whole: Path
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    for after in ("pretrain 2/2", "finetune 1/2"):
        assert interrupted(train, tmp_path / "run", signal.SIGKILL, after, *command).code == -signal.SIGKILL
    again = train(*command)
    assert (again.code, again.err) == (0, "")
    assert "\nhead" not in again.out, "it began again instead of going on"
    same_end(tmp_path / "run", whole)


IN_A_DESTRUCTOR = """
import os, signal
from torch_convae.training import graceful

class Dies:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler runs between two steps of Python
            pass

with graceful() as stop:
    made = Dies()
    del made
    print(stop.signal)
"""


def test_a_signal_that_comes_within_a_destructor_is_noted_without_a_traceback() -> None:
    answer = subprocess.run([sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("15\n", "")


SMALL = ("--limit", "8", "--size", "32", "--batch-size", "4", "--workers", "1")
EVERY_RECIPE = {
    "vae-gru": ("--limit", "8", "--size", "16", "--batch-size", "4", "--epochs", "1,2,1"),
    "unet": (*SMALL, "--epochs", "1,1", "--augment", "flip"),
    "segnet": (*SMALL, "--epochs", "2"),
    "densenet": (*SMALL, "--epochs", "1,1", "--augment", "flip"),
}


@pytest.mark.parametrize(
    "recipe",
    ["vae-gru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("unet", "segnet", "densenet"))],
)
def test_every_recipe_that_is_killed_at_any_time_goes_on_to_the_same_bits(
    train: Any, class_folder: Path, mask_folder: Path, tmp_path: Path, recipe: str
) -> None:
    data = {"densenet": ("--data", class_folder), "vae-gru": ()}.get(recipe, ("--data", mask_folder))
    command = (recipe, *data, *EVERY_RECIPE[recipe])
    begun = time.monotonic()
    assert train(*command, "--out", "whole").code == 0
    took, chance = time.monotonic() - begun, random.Random(recipe)
    for _ in range(3):
        started = train.start(*command, "--out", "run")
        time.sleep(chance.uniform(0.05, 0.95) * took)
        os.kill(started[0], signal.SIGKILL)
        assert train.wait(started).code in (0, -signal.SIGKILL), "what was left of a run may take less"
    # In front of the figures and pictures of a stage, whose last epoch the log has just told of.
    if not (tmp_path / "run/summary.json").exists():
        started = train.start(*command, "--out", "run")
        until(lambda: "train_loss" in train.output(started))
        os.kill(started[0], signal.SIGKILL)
        train.wait(started)
    again = train(*command, "--out", "run")
    assert (again.code, again.err) == (0, "")
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    train: Any, class_folder: Path, tmp_path: Path, whole: Path
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    interrupted(train, tmp_path / "run", signal.SIGINT, "head 1/2", *command)
    path = tmp_path / "run/checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert train(*command).code == 0
    same_end(tmp_path / "run", whole)


def test_a_run_without_a_good_checkpoint_says_so(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    interrupted(train, tmp_path / "run", signal.SIGINT, "pretrain 2/2", *command)
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (tmp_path / "run" / name).write_bytes(b"damaged")
    answer = train(*command)
    assert answer.code == 2
    assert "run/checkpoint.safetensors is damaged, and so is any before" in answer.line
    assert "--fresh" in answer.line


def test_after_a_fresh_start_that_was_stopped_the_next_step_does_not_throw_away_what_it_did(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    line = interrupted(train, tmp_path / "run", signal.SIGINT, "pretrain 1/2", *command, "--fresh").line
    assert "the same command without --fresh goes on from here" in line


def test_of_two_runs_in_one_folder_the_second_is_refused(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    first = train.start(*command)
    until(lambda: "\npretrain 1/2" in train.output(first))
    second = train(*command, "--fresh")
    assert (second.code, second.out) == (2, "")
    assert "Another run is going on in run" in second.line
    os.kill(first[0], signal.SIGINT)
    assert train.wait(first).code == 130
    assert (tmp_path / "run/checkpoint.safetensors").exists(), "--fresh removed what the first run wrote"
    assert (tmp_path / "run/config.json").exists()


def test_a_run_goes_on_only_with_the_images_it_began_with(
    train: Any, drawn_classes: Callable[..., Path], tmp_path: Path
) -> None:
    drawn_classes(tmp_path / "bars")
    command = ("--data", "bars", "--out", "run", *ARGUMENTS)
    interrupted(train, tmp_path / "run", signal.SIGINT, "pretrain 1/2", *command)
    drawn_classes(tmp_path / "more", classes=4)
    (tmp_path / "more/class3").rename(tmp_path / "bars/class3")
    answer = train(*command)
    assert answer.code == 2
    assert "begun on other data" in answer.line
    assert "train [24, 1, 8, 8] -> [32, 1, 8, 8]" in answer.line


def test_a_second_signal_ends_the_run_at_once_and_spoils_nothing(
    train: Any, class_folder: Path, tmp_path: Path, whole: Path
) -> None:
    command = ("--data", class_folder, "--out", "run", *ARGUMENTS)
    started = train.start(*command)
    until(lambda: "\npretrain 1/2" in train.output(started))
    for _ in range(2):
        os.kill(started[0], signal.SIGINT)
        time.sleep(0.002)
    answer = train.wait(started)
    assert answer.code == 130
    assert "goes on from" in answer.line
    assert train(*command).code == 0
    same_end(tmp_path / "run", whole)
