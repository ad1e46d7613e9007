"""Runs that are killed at one of their file operations, each in a process of its own: for tests/training/test_kills.py.

They are children of a process that has computed nothing yet: OpenMP's threads, once there, do not survive a fork, and
a child of pytest's own process may wait for them forever.
"""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch
from tiny_runs import tiny_run

from torch_convae.training import Caching, Release, Stage, archive, saving

EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree"}
STAGES = (
    Stage("pretrain", epochs=1, lr=1e-2),
    Stage("head", epochs=2, lr=1e-2, train=("head.*",), decay=True),
    Stage("finetune", 2, 1e-3, ("head.*",), release=(Release(("encoder.*",), 1, 0.1),), keep_optimizer=True),
)


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


def train(folder: Path, fatal: int) -> None:
    """A run across two freezes, with Dropout and with features on disk, that saves after every step.

    What it comes to lies beside its folder: its state, and how many file operations there were.
    """
    saving.SECONDS_BETWEEN, saving.SHARE = 0.0, 1e9
    built = tiny_run(folder, STAGES, apart=True)
    built.trainer.caching = Caching(budget=0)
    count = Count(folder, fatal)
    count.install()
    built.train()
    torch.save(built.state, folder.with_suffix(".pt"))
    folder.with_suffix(".count").write_text(str(count.seen))


def serve() -> None:
    """For each line "FATAL FOLDER" on stdin a child that trains there, and what it ended with on stdout."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what runs say goes with the errors, which pytest shows where a test fails
    for line in sys.stdin:
        fatal, folder = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if not child:
            _end(Path(folder), int(fatal))
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _end(folder: Path, fatal: int) -> NoReturn:
    """Train, and leave without a word to what the parent has open."""
    signal.alarm(100)
    code = 1
    try:
        train(folder, fatal)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
