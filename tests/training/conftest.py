"""What the tests of training share: tiny data in real files, tiny networks, and the command line as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import Tiny, tiny_run
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr, which is all that a refusal says."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        assert self.err.startswith(("torch_convae.train: ", "python -m torch_convae.train: "))
        return self.err.strip()


# Starting Python with torch and matplotlib takes seconds, so one process imports them and each call is a
# fork of it: still a process of its own, with its own signals, streams, exit code and, should it come, traceback.
SERVER = """
import gc, json, os, resource, runpy, signal, sys, traceback
import matplotlib.figure, matplotlib.backends.backend_agg, torch._dynamo, tqdm  # all that a run imports later
import torch_convae.pictures, torch_convae.pictures.plots, torch_convae.recipes
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(order["folder"])
        os.environ.update(order["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(100)
        if order["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"],) * 2)
        sys.argv = ["train.py", *order["arguments"]]
        code = 99  # the module always leaves by sys.exit
        try:
            runpy.run_module("torch_convae.train", run_name="__main__", alter_sys=True)
        except SystemExit as leaving:
            code = leaving.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)  # taking the interpreter apart takes longer than what is tested
    print(child, flush=True)
"""


class Commands:
    """Starts `python -m torch_convae.train` in a folder and waits for what it gives."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self.server, self.folder, self.count = server, folder, 0
        self.environment: dict[str, str] = {}  # more of it, for what is started next
        self.largest_file = 0  # in bytes, for what happens on a full disk; 0 for no limit

    def _ask(self, order: dict[str, Any]) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def _stream(self, count: int, name: str) -> Path:
        return self.folder / f".{count}.{name}"

    def start(self, *arguments: object) -> tuple[int, int]:
        """A process that runs; its id comes first."""
        self.count += 1
        order: dict[str, Any] = {"arguments": [str(argument) for argument in arguments], "folder": str(self.folder)}
        order |= {"largest_file": self.largest_file, "environment": self.environment}
        order |= {name: str(self._stream(self.count, name)) for name in ("out", "err")}
        return self._ask(order), self.count

    def wait(self, started: tuple[int, int]) -> Answer:
        """What a started process gives in the end."""
        code = self._ask({"wait": started[0]})
        return Answer(code, *(self._stream(started[1], name).read_text() for name in ("out", "err")))

    def output(self, started: tuple[int, int]) -> str:
        """What a process that runs has said so far."""
        path = self._stream(started[1], "out")
        return path.read_text() if path.exists() else ""

    def __call__(self, *arguments: object) -> Answer:
        """Start and wait."""
        return self.wait(self.start(*arguments))


@pytest.fixture(scope="session")
def _server() -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def train(_server: "subprocess.Popen[str]", tmp_path: Path) -> Commands:
    """Runs `python -m torch_convae.train` with these arguments, in `tmp_path`."""
    return Commands(_server, tmp_path)


@pytest.fixture(scope="session")
def train_in(_server: "subprocess.Popen[str]") -> Callable[[Path], Commands]:
    """The same in another folder."""
    return lambda folder: Commands(_server, folder)


@pytest.fixture
def refused(train: Commands, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that is refused and leaves no trace: exit code 2, one line on stderr. Gives the line."""

    def run(*arguments: object) -> str:
        before = tree(tmp_path)
        answer = train(*arguments)
        assert (answer.code, answer.out) == (2, ""), answer
        assert tree(tmp_path) == before, "a refused command left something behind"
        return answer.line

    return run


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, with contents; the streams of the commands themselves left out."""
    found = sorted(path for path in folder.rglob("*") if path.suffix not in (".out", ".err"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder" for path in found}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file and folder below a folder, with contents."""
    return tree


def draw_classes(folder: Path, classes: int = 3, each: int = 10, size: int = 16) -> Path:
    """Grey images that a network can tell apart: noise with a bright bar, at another place for each class."""
    numbers = np.random.default_rng(7)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(each):
            pixels = numbers.integers(0, 80, (size, size), np.uint8)
            pixels[label * size // classes : (label + 1) * size // classes] += 150
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{index}.png")
    return folder


def draw_masks(folder: Path, size: int = 32, **counts: int) -> Path:
    """Colour images split in two at a random column, with masks 0 | 1 and a void (255) frame."""
    numbers = np.random.default_rng(8)
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            column = int(numbers.integers(size // 4, 3 * size // 4))
            mask = np.zeros((size, size), np.uint8)
            mask[:, column:] = 1
            image = numbers.integers(0, 60, (size, size, 3), np.uint8) + (mask * 150)[..., None]
            mask[[0, -1]] = 255
            Image.fromarray(image.astype(np.uint8)).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten 16 x 16 grey images."""
    return draw_classes(tmp_path_factory.mktemp("data") / "bars")


@pytest.fixture(scope="session")
def mask_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training images of 32 x 32 with masks, two for validation and two for the test."""
    return draw_masks(tmp_path_factory.mktemp("data") / "halves", train=4, val=2, test=2)


@pytest.fixture
def drawn_classes() -> Callable[..., Path]:
    """Writes a folder of classes that a test may spoil."""
    return draw_classes


@pytest.fixture
def drawn_masks() -> Callable[..., Path]:
    """Writes a folder of masks that a test may spoil."""
    return draw_masks


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Tiny]:
    """Builds a trainer for a folder; the same call again makes the same weights, data and order."""

    def build(name: str = "run", *arguments: Any, **options: Any) -> Tiny:
        return tiny_run(tmp_path / name, *arguments, **options)

    return build


@pytest.fixture
def same() -> Callable[[dict[str, Tensor], dict[str, Tensor]], bool]:
    """Whether two states hold the same names and the same bits."""

    def compare(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    return compare
