"""Images read from files and augmentation, through the command line: the same run, and nothing left behind."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def children(parent: int) -> list[int]:
    """Processes that a process has started and that still are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(path.parent.name))
    return found


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_workers_change_no_bit_of_a_run_with_augmentation(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--epochs", "1,0,0", "--batch-size", "8", "--augment", "flip,crop,colour")
    for out, more in (("held", ()), ("streamed", ("--workers", "2"))):
        answer = train(*command, *more, "--out", out)
        assert (answer.code, answer.err) == (0, "")
    assert weights(tmp_path / "held") == weights(tmp_path / "streamed")
    assert (tmp_path / "held/metrics.jsonl").read_bytes() == (tmp_path / "streamed/metrics.jsonl").read_bytes()
    assert json.loads((tmp_path / "held/config.json").read_text())["augment"] == "flip,crop,colour"


def begun(train: Any, started: Any) -> None:
    """Wait until a started run has an epoch behind it, and more in front of it."""
    for _ in range(900):
        if "pretrain 1/" in train.output(started):
            return
        time.sleep(0.1)
    raise AssertionError(train.output(started))


def gone(processes: list[int]) -> bool:
    """Whether all of them are, within a few seconds."""
    for _ in range(50):
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.1)
    return False


COMMAND = ("--epochs", "6,0,0", "--batch-size", "4", "--size", "12", "--augment", "turn")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_run_that_is_killed_leaves_no_process_and_goes_on_bit_for_bit(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    command = ("--data", class_folder, *COMMAND)
    started = train.start(*command, "--workers", "2", "--out", "run")
    begun(train, started)
    before = children(started[0])
    os.kill(started[0], signal.SIGKILL)
    assert train.wait(started).code == -9
    assert gone(before)
    assert train(*command, "--out", "run").code == 0
    assert train(*command, "--out", "unbroken", "--workers", "1").code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "unbroken")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_run_that_is_asked_to_stop_ends_its_processes(train: Any, class_folder: Path) -> None:
    started = train.start("--data", class_folder, *COMMAND, "--workers", "2", "--out", "run")
    begun(train, started)
    before = children(started[0])
    os.kill(started[0], signal.SIGTERM)
    answer = train.wait(started)
    assert answer.code == 143
    assert "goes on from here" in answer.line
    assert gone(before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--augment flipp", "did you mean flip?"),
        ("--workers 2", "held in memory"),
        ("--workers -1", "workers -1"),
    ],
)
def test_what_cannot_be_is_refused(refused: Callable[..., str], arguments: str, said: str) -> None:
    assert said in refused(*arguments.split(), "--limit", "20")
