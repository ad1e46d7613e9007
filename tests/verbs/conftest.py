"""What the tests of the verbs share: every model small, pictures on disk, and the commands."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bridge
from torch_convae import create
from torch_convae.models import MODELS
from torch_convae.weights import save_model

NARROW = (4, 6, 8, 10, 12)
SMALL: dict[str, dict[str, Any]] = {
    "convae-classifier": {"classes": 3, "size": 32},
    "vgg16": {"classes": 3, "size": 32},
    "vgg16_bn": {"classes": 3, "size": 32},
    "vgg16_unet": {"classes": 3, "blocks": 2},
    "azavea_unet": {"classes": 3, "blocks": 2},
    "jocicmarko_unet": {"classes": 3, "widths": NARROW[:3]},
    "zhixuhao_unet": {"classes": 3, "widths": NARROW[:3]},
    "shallow_unet": {"classes": 3, "widths": NARROW[:3]},
    "segnet": {"classes": 3, "widths": NARROW},
    "segnet_basic": {"classes": 3, "width": 4},
    "bayesian_segnet": {"classes": 3, "widths": NARROW},
    "vgg_segnet": {"classes": 3, "widths": NARROW[:4]},
    "vgg_unet": {"classes": 3, "widths": NARROW[:4]},
    "conv_vae": {"size": 32, "widths": NARROW[:3]},
    "encoder_gru": {"size": 32, "widths": NARROW[:3], "outputs": 2},
    "densenet121": {"classes": 3, "depths": (1, 1, 1, 1)},
}
EVERY = pytest.mark.parametrize("name", MODELS)


def small(name: str) -> torch.nn.Module:
    """The model in evaluation mode, with statistics unlike those it starts with."""
    torch.manual_seed(0)
    model = create(name, **SMALL.get(name, {})).eval()
    for path, buffer in model.named_buffers():
        if "running_" in path:
            buffer.uniform_(0.5, 1.5)
    return model


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr, which is all that a refusal says."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """Calls a verb as its command line does, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def call(verb: str, *arguments: object) -> Answer:
        main = importlib.import_module(f"torch_convae.{verb}.__main__").main
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of random pictures, 0.png, 1.png, ..."""

    def draw(count: int = 3, size: tuple[int, int] = (32, 32), folder: str = "pictures", grey: bool = False) -> Path:
        numbers = np.random.default_rng(3)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            shape = size if grey else (*size, 3)
            Image.fromarray(numbers.integers(0, 256, shape, np.uint8)).save(tmp_path / folder / f"{index}.png")
        return tmp_path / folder

    return draw


@pytest.fixture
def headless(tmp_path: Path) -> tuple[str, ...]:
    """A VGG16 with a top, on the command line, and a weights file that holds nothing for the top."""
    bridge.save(create("vgg16", widths=(4, 4, 4, 4, 4)), tmp_path / "base.h5")
    options = ("classes=3", "size=32", "widths=4,4,4,4,4", "hidden=5")
    return ("vgg16", *(word for option in options for word in ("--option", option)), "--weights", "base.h5")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes what a finished run leaves to predict with."""

    def write(name: str, names: tuple[str, ...] = ("sky", "road", "tree"), **options: Any) -> Path:
        torch.manual_seed(0)
        chosen = SMALL.get(name, {}) | options
        model = create(name, **chosen)
        (tmp_path / "run").mkdir(exist_ok=True)
        header = {
            "model": name,
            "options": json.dumps(chosen),
            "preprocessing": model.preprocessing.mode,
            "classes": json.dumps(names if "classes" in chosen else []),
            "image_size": "[32, 32]",
        }
        save_model(model, tmp_path / "run" / "model.safetensors", header)
        return tmp_path / "run"

    return write
