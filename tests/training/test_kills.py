"""kill -9 at file operations and between them: the same call again comes to the bits of an unbroken run."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torch_convae.training import Caching, Release, Stage, archive, saving

Build = Callable[..., Any]
EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree"}
STAGES = (
    Stage("pretrain", epochs=1, lr=1e-2),
    Stage("head", epochs=2, lr=1e-2, train=("head.*",), decay=True),
    Stage("finetune", 2, 1e-3, ("head.*",), release=(Release(("encoder.*",), 1, 0.1),), keep_optimizer=True),
)


def build(tiny: Build, name: str, seed: int = 0) -> Any:
    """A run across two freezes, with Dropout and with features on disk, that saves after every step."""
    built = tiny(name, stages=STAGES, seed=seed, apart=True)
    built.trainer.caching = Caching(budget=0)
    return built


@pytest.fixture(autouse=True)
def _saving_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(saving, "SHARE", 1e9)


def child(work: Callable[[], object]) -> int:
    """What a process that does this ends with: 0, or the number of the signal that killed it, negative."""
    pid = os.fork()
    if not pid:
        try:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()  # pytest shows it where the test fails
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Count:
    """Counts the file operations below a folder in this process, and kills it in front of one of them."""

    def __init__(self, folder: Path, fatal: int) -> None:
        self.folder, self.fatal, self.seen = str(folder), fatal, 0

    def one_more(self) -> None:
        self.seen += 1
        if self.seen == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and arguments and str(arguments[0]).startswith(self.folder):
            self.one_more()

    def install(self) -> None:
        """fsync has no audit event, and safetensors writes its files without Python: both are counted by hand."""
        sys.addaudithook(self.audit)
        sync, save = os.fsync, archive.save_file

        def fsync(descriptor: int) -> None:
            self.one_more()
            sync(descriptor)

        def save_file(tensors: dict[str, torch.Tensor], path: Path, notes: dict[str, str]) -> None:
            self.one_more()
            save(tensors, path, notes)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            self.one_more()  # in the middle of the file
            path.write_bytes(whole)

        os.fsync = fsync  # type: ignore[assignment]
        archive.save_file = save_file  # type: ignore[assignment]


def killed(tiny: Build, name: str, fatal: int, tmp_path: Path) -> int:
    """Runs in a process of its own, up to the file operation of that number."""

    def work() -> None:
        built = build(tiny, name)
        count = Count(tmp_path / name, fatal)
        count.install()
        built.train()
        (tmp_path / f"{name}.count").write_text(str(count.seen))

    return child(work)


@pytest.fixture
def operations(tiny: Build, tmp_path: Path) -> int:
    """How many file operations an unbroken run has."""
    assert killed(tiny, "counted", -1, tmp_path) == 0
    return int((tmp_path / "counted.count").read_text())


def same_after_kills(tiny: Build, same: Callable[..., bool], tmp_path: Path, fatal: list[int]) -> None:
    whole = build(tiny, "whole")
    whole.train()
    for number in fatal:
        name = f"killed{number}"
        assert killed(tiny, name, number, tmp_path) == -signal.SIGKILL, number
        # A new process begins with other random numbers. Where nothing was saved, it begins with the same weights.
        torch.manual_seed(777)
        again = build(tiny, name)
        again.train()
        assert same(again.state, whole.state), number
        for file in ("metrics.jsonl",):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), number
        left = {path.name for path in (tmp_path / name).iterdir() if not path.name.startswith(".")}
        assert left == {path.name for path in (tmp_path / "whole").iterdir()}, number


def test_a_run_killed_at_some_of_its_file_operations_comes_to_the_same_bits(
    tiny: Build, same: Callable[..., bool], tmp_path: Path, operations: int
) -> None:
    assert operations > 100
    same_after_kills(tiny, same, tmp_path, list(range(3, operations, operations // 7)))


@pytest.mark.slow
def test_a_run_killed_at_any_of_its_file_operations_comes_to_the_same_bits(
    tiny: Build, same: Callable[..., bool], tmp_path: Path, operations: int
) -> None:
    same_after_kills(tiny, same, tmp_path, list(range(1, operations + 1)))
