"""Loading VGG16's weights: ours, against only reading them, permuting them by hand, and Keras's own `load_weights`.

The floor is to read every byte and do nothing with it. Loading has to read them too, and to write
each number into the module in another order of axes, so it moves every byte twice: what a loop by hand
does, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import bridge
from torch_convae.models import VGG16, VGG16Encoder

from .compare import environment, ratios, timed

SHAPES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
TOP = {"fc1": (25088, 4096), "fc2": (4096, 4096), "predictions": (4096, 1000)}
OURS, READ, BY_HAND = "torch-convae: bridge.load", "h5py: read every array", "h5py + permute + copy_"


def run(weights: Path | None, top: bool, repeats: int) -> dict[str, Any]:
    """Times and ratios, for a given .h5 or for one of VGG16's shapes with random numbers, and in Keras 3's formats."""
    with tempfile.TemporaryDirectory() as folder:
        legacy = weights or write_vgg16(Path(folder) / "vgg16.h5", top)
        model = keras_model(top)
        files = {".h5": legacy} | (keras_files(model, legacy, Path(folder)) if model else {})
        found = {ending: compared(file, ending, top, model, repeats) for ending, file in files.items()}
        peak = peak_memory(legacy, top)
        size, largest = measure(legacy)
    return {
        "benchmark": "convert",
        "what": f"VGG16 {'with' if top else 'without'} top, {size / 2**20:.0f} MiB, largest {largest / 2**20:.0f} MiB",
        "formats": found,
        "ours_over_reading": found[".h5"]["ours_over"][READ],
        "ours_over_permuting_once": found[".h5"]["ours_over"][BY_HAND],
        "gigabytes_per_second": round(size / found[".h5"]["seconds"][OURS]["median"] / 1e9, 2),
        "peak_mebibytes_above_the_module": peak,
        "environment": environment(),
    }


def compared(file: Path, ending: str, top: bool, model: Any, repeats: int) -> dict[str, Any]:
    """One format: equal results first, then every way in turn."""
    module = VGG16(classes=1000) if top else VGG16Encoder()
    bridge.load(module, file)  # also brings the file into memory, for all alike
    calls: dict[str, Callable[[], object]] = {OURS: lambda: bridge.load(module, file)}
    if ending == ".h5":
        check_equal(file, module)
        source = bridge.read(file, isolated=False)
        calls |= {
            "the same, without the process that reads": lambda: bridge.load(module, bridge.read(file, isolated=False)),
            "the same, the file open already": lambda: bridge.load(module, source),
            READ: lambda: read_all(file),
            BY_HAND: lambda: by_hand(file, module),
        }
    if model:
        calls["Keras: load_weights"] = lambda: model.load_weights(file)
    times = timed(calls, repeats)
    over = {name: round(times[OURS]["median"] / each["median"], 3) for name, each in times.items() if name != OURS}
    return {"seconds": times, "times_ours": ratios(times, OURS), "ours_over": over}


def keras_model(top: bool) -> Any:
    """Keras's own VGG16, built already; None where Keras is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError:
        return None
    return keras.applications.VGG16(weights=None, include_top=top, input_shape=None if top else (32, 32, 3))


def keras_files(model: Any, legacy: Path, folder: Path) -> dict[str, Path]:
    """The same weights in Keras 3's formats, written by Keras."""
    model.load_weights(legacy)
    model.save_weights(folder / "vgg16.weights.h5")
    model.save(folder / "vgg16.keras")
    return {".weights.h5": folder / "vgg16.weights.h5", ".keras": folder / "vgg16.keras"}


def measure(file: Path) -> tuple[int, int]:
    """The bytes of all arrays and of the largest."""
    sizes = [array.nbytes for array in read_all(file).values()]
    return sum(sizes), max(sizes)


# Not getrusage: it begins with what the process that started this one had.
PEAK = """
import sys
import torch, bridge
from torch_convae.models import VGG16, VGG16Encoder
from torch_convae.training.memory import Peak
module = VGG16(classes=1000) if sys.argv[2] == "True" else VGG16Encoder()
for parameter in module.parameters():
    parameter.data.fill_(0)  # so that all of its memory is there
peak = Peak(torch.device("cpu"))
peak.start()
before = peak.read()
bridge.load(module, sys.argv[1])
print((peak.read() - before) / 2**20)
"""


def peak_memory(file: Path, top: bool) -> float:
    """How much a fresh process grows by loading, mapped pages of the file included."""
    done = subprocess.run([sys.executable, "-c", PEAK, file, str(top)], capture_output=True, text=True, check=True)
    return round(float(done.stdout), 1)


def write_vgg16(path: Path, top: bool) -> Path:
    """A file as Keras 2 wrote it, with random numbers."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        f"block{block}_conv{stage}": (3, 3, inner, outer)
        for block, widths in enumerate(SHAPES, 1)
        for stage, (inner, outer) in enumerate(pairwise(widths), 1)
    }
    with h5py.File(path, "w") as file:
        shapes |= TOP if top else {}
        file.attrs["layer_names"] = [name.encode() for name in shapes]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for name, shape in shapes.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"] = random.standard_normal(shape, dtype=np.float32) * 0.01
            group[f"{name}/bias:0"] = random.standard_normal(shape[-1], dtype=np.float32)
    return path


def read_all(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every array of the file by name: what any loader has to do at least."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: arrays.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return arrays


def by_hand(path: Path, module: torch.nn.Module) -> None:
    """The loop that a user would write, for the layers that need no flattened order."""
    layers = {name.rpartition(".")[2]: layer for name, layer in module.named_modules()}
    with torch.no_grad():
        for name, array in read_all(path).items():
            layer, tensor = layers[name.split("/")[0]], torch.from_numpy(array)
            if tensor.ndim == 4:
                layer.weight.copy_(tensor.permute(3, 2, 0, 1))
            elif tensor.ndim == 2:
                layer.weight.copy_(tensor.T)
            else:
                layer.bias.copy_(tensor)


def check_equal(path: Path, module: torch.nn.Module) -> None:
    """Ours gives what the plain loop gives, bit for bit, where no flattened order is involved."""
    state = {name: tensor.clone() for name, tensor in module.state_dict().items() if "fc1" not in name}
    by_hand(path, module)
    for name, tensor in state.items():
        torch.testing.assert_close(module.state_dict()[name], tensor, rtol=0, atol=0)
    bridge.load(module, path)
