"""Features as they are computed, kept on disk, and at the end one .npz or .safetensors file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ConvaeError
from ..files import write_whole

ENDINGS = (".npz", ".safetensors")
OWN = ("files", "axes", "about")  # the arrays beside the layers' in an .npz


@dataclass
class Store:
    """An array for each layer with a row for each of at most `most` inputs; memory does not grow with them."""

    folder: Path
    most: int
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def add(self, names: Sequence[str], rows: Mapping[str, torch.Tensor]) -> None:
        """The next inputs' rows, for every layer."""
        start = len(self.files)
        for layer, tensor in rows.items():
            values = tensor.cpu().numpy()
            if layer not in self.arrays:
                path = self.folder / f"{len(self.arrays)}.npy"
                shape = (self.most, *values.shape[1:])
                self.arrays[layer] = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
            self.arrays[layer][start : start + len(values)] = values
        self.files += names

    def write(self, path: Path, axes: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """All of it as one file: the layers' arrays, the inputs' names, the axes of each array, what made it."""
        arrays = {layer: array[: len(self.files)] for layer, array in self.arrays.items()}
        if path.suffix == ".npz":
            beside = {
                "files": np.array(self.files),
                "axes": np.array([f"{layer}: {axes[layer]}" for layer in arrays]),
                "about": np.array(json.dumps(about)),
            }
            write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays, **beside))
            return
        tensors = {layer: torch.from_numpy(array) for layer, array in arrays.items()}
        header = {"files": json.dumps(self.files), "axes": json.dumps(axes), "about": json.dumps(about)}
        write_whole(path, lambda file: save_file(tensors, file, header))


@contextmanager
def storing(path: Path, most: int) -> Iterator[Store]:
    """A store beside the file that it will become, so that it is on the same disk."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".features-", ignore_cleanup_errors=True) as folder:
            yield Store(Path(folder), most)
    except OSError as error:
        raise ConvaeError(f"{path} cannot be written: {error.strerror}. Free space, or name another --out.") from error


def about(path: Path) -> Any:
    """What made a file of features; None for any other file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return json.loads(str(file["about"]))
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["about"])
    except (OSError, ValueError, KeyError, EOFError, SafetensorError):
        return None
