"""What the tests of the bridge share: hand-made files, and its command line as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import bridge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a legacy file by hand: {layer: {weight name: array}}, in that order, with these attributes."""

    def write(
        layers: Mapping[str, Mapping[str, Any]],
        name: str = "made.h5",
        text: Callable[[str], Any] = str.encode,
        inside: str = "/",
        compression: str | None = None,
        **attributes: Any,
    ) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            root = file.require_group(inside)
            root.attrs["layer_names"] = [text(layer) for layer in layers]
            for key, value in attributes.items():
                (file if key == "model_config" else root).attrs[key] = value
            for layer, weights in layers.items():
                group = root.require_group(layer)
                group.attrs["weight_names"] = [text(weight) for weight in weights]
                for weight, array in weights.items():
                    group.create_dataset(weight, data=array, compression=compression)
        return path

    return write


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str


# Starting Python and torch takes seconds, so one process imports the command line and each call is a
# fork of it: still a process of its own, with its own streams, exit code and, should it come, traceback.
SERVER = """
import json, os, signal, sys, traceback
import bridge.__main__ as cli
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(order["folder"])  # where modules are found, too: `-c` has the working folder in front, as `-m` has
        signal.alarm(60)
        code = 1
        try:
            code = cli.main(order["arguments"])
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking the interpreter down would take longer than the command
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """A file that a function filled."""

    def make(fill: Callable[[h5py.File], object], name: str = "made.h5", **options: Any) -> Path:
        with h5py.File(tmp_path / name, "w", **options) as file:
            fill(file)
        return tmp_path / name

    return make


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def isolated(request: pytest.FixtureRequest) -> bool:
    """Whether HDF5 is read in a process of its own."""
    return bool(request.param)


@pytest.fixture(scope="session")
def _server() -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    with server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def bridge_cli(_server: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Answer]:
    """Runs `python -m bridge` with these arguments, in the repository's root or another folder."""

    def run(*arguments: object, folder: Path = ROOT) -> Answer:
        assert _server.stdin is not None
        assert _server.stdout is not None
        out, err = tmp_path / ".out", tmp_path / ".err"
        order = {"arguments": list(map(str, arguments)), "folder": str(folder), "out": str(out), "err": str(err)}
        _server.stdin.write(json.dumps(order) + "\n")
        _server.stdin.flush()
        answer = Answer(int(_server.stdout.readline()), out.read_text(), err.read_text())
        out.unlink()
        err.unlink()
        return answer

    return run


@pytest.fixture
def refused(bridge_cli: Callable[..., Answer]) -> Callable[..., str]:
    """Runs a command that must be refused: exit code 2, one line on stderr, nothing on stdout. Gives the line."""

    def run(*arguments: object) -> str:
        answer = bridge_cli(*arguments)
        assert (answer.code, answer.out) == (2, ""), answer
        assert answer.err.count("\n") == 1, answer.err
        assert answer.err.endswith("\n")
        assert "Traceback" not in answer.err
        return answer.err.strip()

    return run


@pytest.fixture
def unchanged() -> Callable[[nn.Module], Callable[[], bool]]:
    """Remembers every bit of a module; what it gives tells whether they still are the same."""

    def remember(module: nn.Module) -> Callable[[], bool]:
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        return lambda: all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())

    return remember


@pytest.fixture
def numbers() -> Callable[..., np.ndarray]:
    """Random float32 numbers; another seed, other numbers."""

    def draw(*shape: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

    return draw


@pytest.fixture
def same(saved: Any, randomised: Any, images: Any) -> Callable[..., bridge.Plan]:
    """Loads a Keras model's weights into a module and holds their outputs against each other."""

    def compare(
        model: Any, module: nn.Module, *, first: bool = True, weights_only: bool = False, **options: Any
    ) -> bridge.Plan:
        plan = bridge.load(module, saved(randomised(model), weights_only=weights_only), strict=True, **options)
        shapes = [each.shape[1:] for each in model.inputs]
        inputs = [images(2, *shape, seed=seed) for seed, shape in enumerate(shapes)]
        expected = np.asarray(model(inputs if len(inputs) > 1 else inputs[0], training=False).detach())
        given = [torch.from_numpy(each).movedim(-1, 1) if first else torch.from_numpy(each) for each in inputs]
        with torch.inference_mode():
            found = module.eval()(given if len(given) > 1 else given[0]).numpy()
        if found.shape != expected.shape:
            found = np.moveaxis(found, 1, -1)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        return plan

    return compare


# Reading runs in processes of its own that report how much memory they took.
