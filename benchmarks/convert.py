"""Loading VGG16's weights: ours, against only reading the arrays, and against Keras's own `load_weights`.

The floor is to read every array and do nothing with it. Loading has to read them too, and to write
each into the module in another order of axes, so it moves every byte twice.
"""

from __future__ import annotations

import os
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


def run(weights: Path | None, top: bool, repeats: int) -> dict[str, Any]:
    """Times and ratios, for a given file or for one of VGG16's shapes with random numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = weights or write_vgg16(Path(folder) / "vgg16.h5", top)
        encoder = VGG16(classes=1000) if top else VGG16Encoder()
        plan = bridge.load(encoder, path)  # also brings the file into memory, for all alike
        calls: dict[str, Callable[[], object]] = {
            "torch-convae: bridge.load": lambda: bridge.load(encoder, path),
            "h5py: read every array": lambda: read_all(path),
            "h5py + permute + copy_": lambda: by_hand(path, encoder),
        }
        by_keras = keras_loader(path, top)
        if by_keras:
            calls["Keras: load_weights"] = by_keras
        check_equal(path, encoder)
        times = timed(calls, repeats)
        size = sum(array.nbytes for array in read_all(path).values())
    ours = "torch-convae: bridge.load"
    return {
        "benchmark": "convert",
        "what": f"VGG16 {'with' if top else 'without'} top, .h5, {size / 2**20:.0f} MiB, {len(plan.copied)} tensors",
        "seconds": times,
        "times_ours": ratios(times, ours),
        "ours_over_reading": round(times[ours]["median"] / times["h5py: read every array"]["median"], 3),
        "gigabytes_per_second": round(size / times[ours]["median"] / 1e9, 2),
        "environment": environment(),
    }


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


def keras_loader(path: Path, top: bool) -> Callable[[], object] | None:
    """Keras's own loading into a model that is already built; None where Keras is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError:
        return None
    model = keras.applications.VGG16(weights=None, include_top=top, input_shape=None if top else (32, 32, 3))
    return lambda: model.load_weights(path)
