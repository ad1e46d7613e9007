"""A file of ours that lacks a part of its end, or has more behind it, is refused, whatever its format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.files.tail import LENGTH
from bridge.hdf5 import superblock

Make = Callable[[Path], Path]


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.Linear(2, 2)})


def like(libver: str, userblock: int = 0) -> Make:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "like.h5", "w", libver=libver, userblock_size=userblock) as file:
            file.attrs["layer_names"] = [b"one", b"two"]
            for name, layer in net().named_children():
                group = file.create_group(name)
                group.attrs["weight_names"] = [b"kernel", b"bias"]
                group["kernel"] = np.zeros(tuple(reversed(layer.weight.shape)), np.float32)
                group["bias"] = np.zeros(tuple(layer.bias.shape), np.float32)
        return bridge.save(net(), folder / "back.h5", like=folder / "like.h5")

    return make


def converted(ending: str) -> Make:
    return lambda folder: bridge.convert(bridge.save(net(), folder / "w.h5"), folder / f"w{ending}").path


MAKERS: dict[str, Make] = {
    "safetensors": converted(".safetensors"),
    "pt": converted(".pt"),
    "h5": lambda folder: bridge.save(net(), folder / "w.h5"),
    "h5 of HDF5 1.8's form": like("v108"),
    "h5 of HDF5 1.10's form": like("v110"),
    "h5 behind somebody's own bytes": like("earliest", 512),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_file_that_lacks_any_part_of_its_end_is_refused(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path)
    bridge.read(path).check()
    whole = path.read_bytes()
    for cut in range(1, LENGTH + 10):
        path.write_bytes(whole[:-cut])
        with pytest.raises(bridge.BridgeError, match="Get the file again"):
            bridge.read(path).check()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("more", [1, 86, 5000])
def test_a_file_that_goes_on_behind_its_end_is_refused(make: Make, more: int, tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0" * more)
    with pytest.raises(bridge.BridgeError, match="Get the file again"):
        bridge.read(path).check()


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_where_a_file_ends_is_read_and_written_as_hdf5_does(libver: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "any.h5", "w", libver=libver) as file:
        file["numbers"] = np.arange(5.0)
    content = (tmp_path / "any.h5").read_bytes()
    with (tmp_path / "any.h5").open("rb") as opened:
        found = superblock.find(opened.fileno(), len(content))
    assert found is not None
    assert found.end == len(content)
    assert content.startswith(found.ending_at(len(content)))
