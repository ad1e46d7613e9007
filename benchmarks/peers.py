"""Keras's `fit` on each backend, in a process of its own, beside which this one can be timed in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import bridge

from .loops import Trained
from .work import Work

BACKENDS = ("torch", "tensorflow", "jax")
SCRIPT = Path(__file__).parent / "keras_fit.py"


class Missing(Exception):
    """Why there is nothing to compare with."""


class KerasFit:
    """A process that trains when it is told to."""

    def __init__(self, process: subprocess.Popen[str], complaints: Path) -> None:
        self.process, self.complaints = process, complaints
        self.about = self._answer()

    def train(self, steps: int) -> Trained:
        """So many steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return Trained(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise Missing((self.complaints.read_text().strip().splitlines() or ["it ends at once"])[-1])


@contextmanager
def keras_fit(work: Work, backend: str, folder: Path, python: str = sys.executable) -> Iterator[KerasFit]:
    """Keras on a backend, with the work's weights and data; Missing where it is not installed."""
    command = [python, str(SCRIPT), *_handed_over(work, folder), work.name, str(work.batch)]
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    chosen = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    one = {"BENCHMARK_CORES": ",".join(map(str, cores))} if len(cores) == 1 else {}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | chosen | one
    complaints = folder / f"{backend}.txt"
    with complaints.open("w") as err:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": err, "text": True}
        try:
            process = subprocess.Popen(command, env=environment, **pipes)
        except OSError as error:
            raise Missing(f"{python} cannot be started: {error.strerror}") from error
    try:
        yield KerasFit(process, complaints)
    finally:
        process.kill()
        process.communicate()


def _handed_over(work: Work, folder: Path) -> tuple[str, str]:
    """The data, channels last, and the weights, as files."""
    data, weights = folder / f"{work.name}.npz", folder / f"{work.name}.h5"
    if not data.exists():
        images, goals = work.inputs().permute(0, 2, 3, 1).contiguous().numpy(), work.goals()
        np.savez(data, images=images, goals=goals.numpy() if goals.dim() == 3 else images)
        bridge.save(work.network, weights)
    return str(data), str(weights)
