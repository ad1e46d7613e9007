"""Random numbers: where every generator begins, where it is, and nothing in between that would move it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """The generators of Python, NumPy and PyTorch, on every device, from one seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generators() -> dict[str, Any]:
    """Where every generator is, as tensors and plain values."""
    version, numbers, gauss = random.getstate()
    arrays = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": {**arrays, "state": {**arrays["state"], "key": arrays["state"]["key"].tolist()}},
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Back to where they were; those of CUDA devices that are not here are left out."""
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available():
        for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), index)
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    arrays = states["numpy"]
    keys = np.array(arrays["state"]["key"], np.uint32)
    np.random.set_state({**arrays, "state": {**arrays["state"], "key": keys}})


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever draws within, the training goes on with the numbers it would have drawn."""
    before = generators()
    try:
        yield
    finally:
        set_generators(before)


def compute_deterministically() -> None:
    """The same bits on CUDA, too, at some cost of speed; an operation that cannot give them is an error.

    To be called before anything is computed: cuBLAS reads its setting once.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
