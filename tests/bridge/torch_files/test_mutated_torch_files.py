"""Files that are changed at random are read or refused, and nothing else."""

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from crafted_torch_files import zipped
from safetensors.torch import save_file

import bridge

ROOT = Path(__file__).resolve().parents[3]


def sample(folder: Path) -> dict[str, bytes]:
    tensors = {"conv.weight": torch.randn(2, 1, 3, 3), "bn.count": torch.tensor(3), "fc.weight": torch.randn(2, 3).t()}
    torch.save(tensors, folder / "zip")
    torch.save(tensors, folder / "old", _use_new_zipfile_serialization=False)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "safetensors")
    return {name: (folder / name).read_bytes() for name in ("zip", "old", "safetensors")}


def mutated(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(len(data)) if data else 0
        length = chance.choice((1, 1, 4, 60))
        kind = chance.randrange(6) if data else 3
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.randrange(256)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = chance.randbytes(length)
        elif kind == 4:
            other = chance.randrange(len(data))
            data[place:place] = data[other : other + length]
        else:
            del data[max(place, 1) :]
    return bytes(data) or b"\0"


def try_all(folder: Path, count: int, seed: int) -> int:
    """Reads so many changed files; how many were refused. Whatever is read has the shapes of a tensor."""
    chance, refusals = random.Random(seed), []
    contents, path = sample(folder), folder / "changed"
    with zipfile.ZipFile(folder / "zip") as archive:
        contents["pickle"] = archive.read("zip/data.pkl")
        numbers = [archive.read(f"zip/data/{key}") for key in range(3)]
    for number in range(count):
        kind = ("zip", "old", "safetensors", "pickle")[number % 4]
        content = mutated(contents[kind], chance)
        if kind == "pickle":  # in an archive whose checksums are right
            zipped(content, numbers)(path)
        else:
            path.write_bytes(content)
        try:
            source = bridge.read(path)
            for key, array in source.items():
                assert array.shape == source.shapes[key]
                assert array.nbytes <= 8 * path.stat().st_size
        except bridge.BridgeError as error:
            refusals.append(str(error))
        except BaseException:
            path.rename(folder / "culprit")
            raise
    assert all(refusal.isprintable() and path.name in refusal for refusal in refusals)
    return len(refusals)


def test_a_file_changed_at_random_is_read_or_refused(tmp_path: Path) -> None:
    assert 200 < try_all(tmp_path, 300, seed=1) <= 300


@pytest.mark.slow
def test_thousands_of_files_changed_at_random_are_read_or_refused(tmp_path: Path) -> None:
    code = "import importlib.util, sys; from pathlib import Path\n"
    code += f"spec = importlib.util.spec_from_file_location('hostile', {str(Path(__file__))!r})\n"
    code += "hostile = importlib.util.module_from_spec(spec); spec.loader.exec_module(hostile)\n"
    code += f"print(hostile.try_all(Path({str(tmp_path)!r}), 6000, seed=2))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 4000 < int(done.stdout) <= 6000
