"""What the tests share: Keras on PyTorch, random weights on both sides, and Keras's two kinds of .h5 file."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # before anything imports Keras
if "PYTEST_XDIST_WORKER" in os.environ:  # a test to a core: the threads of one would wait for those of the others
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import pytest
import torch
from torch import nn

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RTOL, ATOL = 1e-4, 1e-5

LONG = frozenset({"test_readme.py", "test_ranks.py", "test_kills.py"})
VGG16_FILE = DATA / "vgg16" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
CAMVID_IMAGE = DATA / "camvid" / "val" / "images"


def pytest_configure(config: pytest.Config) -> None:
    """Digits and bits are those of the CPU, also where there is a GPU: tests of one are asked for by `-m gpu`."""
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files whose tests take longest come first, so that at the end no worker waits for another's."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def keras() -> Any:
    """Keras 3 on PyTorch, in a session of its own: automatic names start from the beginning."""
    keras = pytest.importorskip("keras")
    keras.utils.clear_session(free_memory=False)  # collecting garbage takes longer than most tests
    keras.utils.set_random_seed(0)
    return keras


@pytest.fixture
def vgg16_file() -> Path:
    """The genuine ImageNet VGG16 of Keras."""
    if not VGG16_FILE.is_file():
        pytest.skip(f"{VGG16_FILE} is not there")
    return VGG16_FILE


@pytest.fixture
def photograph() -> np.ndarray:
    """A street of CamVid, small: (1, 96, 128, 3), RGB, 0..255."""
    if not CAMVID_IMAGE.is_dir():
        pytest.skip(f"{CAMVID_IMAGE} is not there")
    image = pytest.importorskip("PIL.Image").open(sorted(CAMVID_IMAGE.iterdir())[0]).convert("RGB")
    return np.asarray(image.resize((128, 96)), np.float32)[None]


def drawn(name: str, shape: tuple[int, ...], numbers: np.random.Generator) -> np.ndarray:
    """Random values for a weight: around one where the layer multiplies or divides by them."""
    if name in ("gamma", "moving_variance", "running_var"):
        return numbers.uniform(0.5, 1.5, shape).astype(np.float32)
    inputs = int(np.prod(shape[:-1])) if len(shape) > 1 else 10
    return (numbers.standard_normal(shape) * (2 / max(inputs, 1)) ** 0.5).astype(np.float32)


@pytest.fixture
def randomised() -> Callable[..., Any]:
    """Gives every weight of a Keras model random values."""

    def randomise(model: Any, seed: int = 0) -> Any:
        numbers = np.random.default_rng(seed)
        for weight in model.weights:
            weight.assign(drawn(weight.name, tuple(weight.shape), numbers))
        return model

    return randomise


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Keras model as a .h5 file: as a whole, or the weights only, as Keras 2's save_weights did."""

    def save(model: Any, name: str = "model.h5", *, weights_only: bool = False) -> Path:
        path = tmp_path / name
        with warnings.catch_warnings():  # Keras's, of its own variables
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
            model.save(path)
        if weights_only:
            whole = path.rename(path.with_name(f"whole-{name}"))
            with h5py.File(whole) as file, h5py.File(path, "w") as copy:
                for key, value in file["model_weights"].attrs.items():
                    copy.attrs[key] = value
                for key in file["model_weights"]:
                    file.copy(f"model_weights/{key}", copy, key)
            whole.unlink()
        return path

    return save


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Holds a PyTorch module against what Keras gives for the same images (N, H, W, C)."""

    def compare(model: Any, module: nn.Module, images: np.ndarray, rtol: float = RTOL, atol: float = ATOL) -> None:
        expected = np.asarray(model(images, training=False).detach().cpu().numpy())
        with torch.inference_mode():
            given = module.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        if given.ndim == 4:
            given = given.transpose(0, 2, 3, 1)
        assert np.abs(expected).max() > 1e-3, "the outputs are all but zero: the comparison would prove nothing"
        np.testing.assert_allclose(given, expected, rtol=rtol, atol=atol)

    return compare


@pytest.fixture
def images() -> Callable[..., np.ndarray]:
    """Random images (N, H, W, C)."""

    def draw(*shape: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

    return draw


class Chain(nn.Module):
    """Layers one after the other under dotted names; what is called "" computes and has no name."""

    def __init__(self, *steps: tuple[str, nn.Module]) -> None:
        super().__init__()
        self.steps = [layer for _, layer in steps]
        for name, layer in steps:
            *outer, last = name.split(".")
            owner: nn.Module = self
            for part in outer:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if last:
                owner.add_module(last, layer)
        numbers = np.random.default_rng(99)
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(drawn(name.rpartition(".")[2], tuple(tensor.shape), numbers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.steps:
            x = layer(x)
        return x


@pytest.fixture
def chain() -> type[Chain]:
    """Builds a module with random weights from pairs of a dotted name and a layer."""
    return Chain
