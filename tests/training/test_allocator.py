"""A step takes the memory that the step before gave back, instead of new pages from the system."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each step takes and gives back 48 MiB, more than glibc ever keeps by itself; faults are counted, in a process whose
# allocator nothing has touched before.
STEPS = """
import json, resource, sys
import torch
sys.path.append("tests")
from tiny_runs import tiny_run
from torch import nn
from torch_convae.training import Phase, Stage, classification

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.preprocessing = lambda images: images.float()
        self.seen = []

    def forward(self, x):
        self.seen.append(faults())
        torch.ones(12 * 2**20)
        return x.mean((1, 2, 3))[:, None] * self.scale

def alone(times=10):
    before = faults()
    for _ in range(times):
        torch.ones(12 * 2**20)
    return (faults() - before) / times

def training(tmp_path):
    model, tiny = Large(), tiny_run(tmp_path)
    tiny.trainer.models = model
    tiny.trainer.train([Phase(Stage("large", 3, 1e-3), model, classification())])
    steps = [after - before for before, after in zip(model.seen, model.seen[1:])]
    return sorted(steps)[len(steps) // 2]

if __name__ == "__main__":
    import pathlib, tempfile
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps([alone(), training(pathlib.Path(folder)), alone()]))
"""
PAGES = 12 * 2**20 * 4 / 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_a_step_reuses_the_memory_of_the_one_before_and_the_process_is_as_it_was_once_training_is_over() -> None:
    ran = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    before, training, after = json.loads(ran.stdout.splitlines()[-1])
    assert before > PAGES * 0.9, "by itself glibc maps it anew"
    assert training < PAGES * 0.1
    assert after > PAGES * 0.9
