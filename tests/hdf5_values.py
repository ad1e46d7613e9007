"""Numbers for HDF5 files of tests, and those of a file that was read."""

import numpy as np

from bridge.hdf5 import Dataset, File


def held(file: File, name: str) -> np.ndarray:
    dataset = file.child(file.root, name)
    assert isinstance(dataset, Dataset)
    return file.array(dataset)


def drawn(dtype: str, shape: tuple[int, ...] = (7, 5)) -> np.ndarray:
    numbers = np.random.default_rng(3)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return numbers.standard_normal(shape).astype(kind)
    return numbers.integers(0, 256, (*shape, kind.itemsize), np.uint8).view(kind)[..., 0].copy()
