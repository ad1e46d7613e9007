"""kill -9 at file operations and between them: the same call again comes to the bits of an unbroken run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
Train = Callable[..., int]


@pytest.fixture(scope="module")
def trained() -> Iterator[Train]:
    """Trains in a folder, in a process of its own, up to the file operation of a number; what that ends with."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "killed_runs"],
        env={**os.environ, "PYTHONPATH": places},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def train(folder: Path, fatal: int = -1) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{fatal} {folder}\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    with server:
        yield train
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def operations(trained: Train, tmp_path: Path) -> int:
    """How many file operations an unbroken run has, which lies in the folder `whole`."""
    assert trained(tmp_path / "whole") == 0
    return int((tmp_path / "whole.count").read_text())


def same_after_kills(trained: Train, same: Callable[..., bool], tmp_path: Path, fatal: list[int]) -> None:
    for number in fatal:
        folder = tmp_path / f"killed{number}"
        assert trained(folder, number) == -signal.SIGKILL, number
        assert trained(folder) == 0, number
        states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in (folder.name, "whole")]
        assert same(*states), number
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes(), number
        left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        assert left == {path.name for path in (tmp_path / "whole").iterdir()}, number


def test_a_run_killed_at_some_of_its_file_operations_comes_to_the_same_bits(
    trained: Train, same: Callable[..., bool], tmp_path: Path, operations: int
) -> None:
    assert operations > 100
    same_after_kills(trained, same, tmp_path, list(range(3, operations, operations // 4)))


@pytest.mark.slow
def test_a_run_killed_at_any_of_its_file_operations_comes_to_the_same_bits(
    trained: Train, same: Callable[..., bool], tmp_path: Path, operations: int
) -> None:
    same_after_kills(trained, same, tmp_path, list(range(1, operations + 1)))
