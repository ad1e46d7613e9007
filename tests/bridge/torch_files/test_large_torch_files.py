"""Many tensors, many names, many bytes: what reading them takes, and what is let through."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted_torch_files import entry, headed
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.torch_files import read_pickled, safetensors_files


def test_names_full_of_numbers_are_put_in_order_in_little_memory(reader: Any, tmp_path: Path) -> None:
    headed({"1a" * 5000 + str(number): entry("I8", [0], 0, 0) for number in range(500)})(tmp_path / "w")
    given = reader(tmp_path / "w")
    assert len(given["shapes"]) == 500
    assert given["mebibytes"] < 128


def test_a_file_whose_names_would_not_be_read_again_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_file({f"layer{index}.weight": torch.ones(1) for index in range(40)}, tmp_path / "w.safetensors")
    (tmp_path / "there.safetensors").write_bytes(b"former")
    monkeypatch.setattr(safetensors_files, "LARGEST_HEADER", 4000)
    with pytest.raises(bridge.BridgeError, match=r"more than the 4000 that .* Write a \.pt file instead"):
        bridge.convert(tmp_path / "w.safetensors", tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"former"
    bridge.convert(tmp_path / "w.safetensors", tmp_path / "there.pt")


def test_a_state_dict_in_memory_with_two_names_that_are_one_is_refused() -> None:
    with pytest.raises(bridge.BridgeError, match=r"a\.b and a/b are one name, a/b\. Rename one of them"):
        bridge.load(nn.Linear(1, 1), {"a.b": torch.ones(1), "a/b": torch.ones(1)})


def test_a_weight_under_two_or_three_names_may_be_of_any_size(tmp_path: Path) -> None:
    weight = torch.arange(1000.0)
    for count in (2, 3, 4):
        torch.save({f"w{index}": weight for index in range(count)}, tmp_path / "w.pt")
        if count < 4:
            assert len(read_pickled(tmp_path / "w.pt", repeated=0)) == count
    with pytest.raises(bridge.BridgeError, match="repeats numbers"):
        read_pickled(tmp_path / "w.pt", repeated=0)


def test_how_often_numbers_may_be_repeated_can_be_chosen(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1000)}, tmp_path / "w.pt")
    assert read_pickled(tmp_path / "w.pt", repeated=3996)["w"].sum() == 1000
    with pytest.raises(bridge.BridgeError, match="repeats numbers"):
        read_pickled(tmp_path / "w.pt", repeated=3995)


@pytest.mark.parametrize("save", [save_file, torch.save], ids=["safetensors", "pt"])
def test_a_file_of_thousands_of_tensors_is_read(save: Callable[..., None], tmp_path: Path) -> None:
    save({f"layer{n}.weight": torch.full((1,), float(n)) for n in range(3000)}, tmp_path / "w")
    source = bridge.read(tmp_path / "w")
    assert list(source)[:2] == ["layer0/weight", "layer1/weight"]
    assert [float(array[0]) for array in source.values()] == list(range(3000))


def test_a_file_of_gigabytes_is_read_where_it_is_asked_for(reader: Any, tmp_path: Path) -> None:
    large, path = 3 << 28, tmp_path / "w.safetensors"
    header = {"a": entry("F32", [large], 0, 4 * large), "b": entry("F32", [1], 4 * large, 4 * large + 4)}
    data = json.dumps(header).encode()
    headed(data + b" " * (-len(data) % 8))(path)
    with path.open("r+b") as file:  # a file with a hole
        file.truncate(path.stat().st_size + 4 * large)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<f", 2.5))
    source = bridge.read(path)
    assert source.shapes == {"a": (large,), "b": (1,)}
    assert source["b"] == 2.5
    assert source["a"][-1] == 0
    assert reader(path)["mebibytes"] < 100


def test_reading_takes_no_second_copy_of_the_numbers(reader: Any, tmp_path: Path) -> None:
    for save, name in ((save_file, "w.safetensors"), (torch.save, "w.pt")):
        save({"w": torch.ones(16 << 20)}, tmp_path / name)  # 64 MiB
        given = reader(tmp_path / name)
        assert given["shapes"] == [[16 << 20]]
        assert given["mebibytes"] < 100


# Files changed at random.
