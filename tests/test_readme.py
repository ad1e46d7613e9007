"""What README shows runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
TEXT = (ROOT / "README.md").read_text()
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines() if line]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
WEIGHTS = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
SHORT = ["--limit", "20", "--epochs", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would stand: with the weights file of the examples, and a finished run."""
    from benchmarks.convert import write_vgg16

    folder = tmp_path_factory.mktemp("readme")
    write_vgg16(folder / WEIGHTS, top=False)
    write_hed(folder / "hed_bsds500.weights.h5")
    Image.new("RGB", (40, 33)).save(folder / "street.png")
    called([sys.executable, "-m", "torch_convae.train", *SHORT], folder)
    return folder


def write_hed(path: Path) -> None:
    """Random numbers in the structure of the published file: five Sequential blocks, six convolutions of 1 x 1."""
    numbers = np.random.default_rng(0)
    widths = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
    with h5py.File(path, "w") as file:

        def write(place: str, name: str, *shape: int) -> None:
            group = file.create_group(f"{place}/vars")
            group.attrs["name"] = name
            group["0"] = numbers.standard_normal(shape, dtype=np.float32) * 0.01
            group["1"] = numbers.standard_normal(shape[-1], dtype=np.float32)

        for block, (given, *outs) in enumerate(widths, start=1):
            for index, out in enumerate(outs):
                place = f"block{block}/layers/conv2d" + (f"_{index}" if index else "")
                write(place, f"block{block}_conv{index + 1}", 3, 3, given, out)
                given = out
            file.create_group(f"block{block}/vars").attrs["name"] = "sequential" + (
                f"_{block - 1}" if block > 1 else ""
            )
            write(f"dsn{block}", "conv2d" + (f"_{block - 1}" if block > 1 else ""), 1, 1, given, 1)
        write("fuse", "conv2d_5", 1, 1, 5, 1)


def called(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_commands_set_up_everything_in_one_line_each() -> None:
    main, tests = (line for line in SHELL if line.startswith("python3 -m venv"))
    for line in (main, tests):
        make, install, run = line.split(" && ")
        assert make == "python3 -m venv .venv"
        assert install.startswith('.venv/bin/pip install -e ".[')
        assert run.startswith(".venv/bin/python -m ")
    assert main.endswith("python -m torch_convae.train")
    assert tests.endswith("python -m pytest")


def test_the_main_command_trains(folder: Path) -> None:
    run = SHELL[0].split(" && ")[-1]
    command = [sys.executable, *shlex.split(run)[1:], *SHORT, "--out", "again"]
    assert "test_accuracy" in called(command, folder)
    assert (folder / "again" / "summary.json").exists()


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("python ")])
def test_the_other_commands_run(line: str, folder: Path) -> None:
    words = shlex.split(line)
    if " data/" in line and not DATA.exists():
        pytest.skip("the data sets of this command are not here")
    if "docs/compare_runs.py" in words and not (folder / "runs" / "scratch").exists():
        pytest.skip("the runs to compare need data sets that are not here")
    words = [re.sub("^data/", f"{DATA}/", re.sub("^docs/", f"{ROOT}/docs/", word)) for word in words]
    if "torch_convae.train" in words:
        # Few and small, as bfloat16 takes minutes for more on a processor that only imitates it.
        words += [*SHORT, *(["--size", "16", "--limit", "4"] if "unet" in words else [])]
        words += [] if "--out" in words else ["--out", "another"]
    if "benchmarks" in words:
        words += ["--repeats", "1", "--tiny"]
    called([sys.executable, *words[1:]], folder)


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_runs(code: str, folder: Path) -> None:
    called([sys.executable, "-W", "error", "-c", code], folder)


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
