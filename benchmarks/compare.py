"""Two ways of doing the same: equal results first, then both timed in turn."""

from __future__ import annotations

import ctypes
import gc
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

Call = Callable[[], object]


def timed(calls: Mapping[str, Call], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each call, `repeats` times in turn, so that a slow minute is slow for all.

    Each turn has another order, since a call finds in the caches what the one before it has left there, and
    each call begins as a program does that does this once: without memory that an earlier one has left behind.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order, chance = list(calls), random.Random(0)
    for _ in range(repeats):
        chance.shuffle(order)
        for name in order:
            give_memory_back()
            synchronise()
            start = time.perf_counter()
            calls[name]()
            synchronise()
            seconds[name].append(time.perf_counter() - start)
    return {name: summary(each) for name, each in seconds.items()}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """The middle one and both ends."""
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)}


def ratios(times: Mapping[str, Mapping[str, float]], ours: str) -> dict[str, float]:
    """How many times as long as ours the others take: above 1, ours is faster."""
    return {name: round(time_["median"] / times[ours]["median"], 3) for name, time_ in times.items() if name != ours}


def give_memory_back() -> None:
    """Collect what nothing refers to, and return free memory to the system where the C library can."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def synchronise() -> None:
    """Wait for what a CUDA device still computes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def environment() -> dict[str, Any]:
    """The hardware and versions that a figure belongs to."""
    names = ("torch-convae", "torch", "torchvision", "numpy", "h5py", "keras", "safetensors")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in names if (found := _version(name))},
    }


def processor() -> str:
    """The processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
