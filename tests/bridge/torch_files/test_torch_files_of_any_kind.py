"""Whatever PyTorch writes, of every type, form and age, is read as PyTorch reads it."""

import collections
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crafted_torch_files import (
    dictionary,
    in_a_row,
    number,
    old,
    storage,
    tensor,
    text,
    zipped,
)
from torch import nn

import bridge


def shared() -> torch.Tensor:
    return torch.arange(60.0).reshape(3, 4, 5)


def with_attribute() -> torch.Tensor:
    tensor = torch.arange(3.0)
    tensor.note = "mine"
    return tensor


def tied() -> dict[str, torch.Tensor]:
    base = torch.arange(12.0)
    return {"whole": base, "end": base[7:], "matrix": base.view(3, 4), "turned": base.view(3, 4).t()}


CONTENTS: dict[str, Callable[[], Any]] = {
    "a scalar": lambda: {"w": torch.tensor(3.5)},
    "no numbers": lambda: {"w": torch.zeros(0, 3), "v": torch.zeros(2, 0)},
    "an axis of one": lambda: {"w": torch.ones(1, 5, 1)[:, ::2]},
    "a permuted view": lambda: {"w": shared().permute(2, 0, 1)},
    "a part": lambda: {"w": shared()[1:, 1:3, ::2]},
    "an expanded view": lambda: {"w": torch.arange(3.0)[:, None].expand(3, 4)},
    "overlapping windows": lambda: {"w": torch.arange(6.0).unfold(0, 3, 1)},
    "channels last": lambda: {"w": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)},
    "tied tensors": tied,
    "parameters": lambda: {"w": nn.Parameter(shared()), "v": nn.Parameter(torch.ones(2), requires_grad=False)},
    "a tensor with an attribute": lambda: {"w": with_attribute()},
    "a training's state": lambda: {
        "state_dict": collections.OrderedDict(w=shared()),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]},
        "values": [None, True, 2**70, -1, 1.5, "é", b"x", bytearray(b"y"), 1j, {1, 2}],
        "types": (torch.float16, torch.Size([2]), torch.device("cpu"), collections.Counter("aab")),
        ("a", 1): {2: 3},
    },
}
OLD_TYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
NEW_TYPES = "uint16 uint32 uint64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split()
CONTENTS |= {
    dtype: lambda dtype=dtype: {"w": torch.tensor([0, 1, 2, 3, 4]).to(getattr(torch, dtype))}
    for dtype in OLD_TYPES + NEW_TYPES
}
WRITTEN = [(name, zip_) for name in CONTENTS for zip_ in (True, False) if zip_ or name not in NEW_TYPES]


@pytest.mark.parametrize(("name", "zip_"), WRITTEN, ids=[f"{name}, {'zip' if z else 'old'}" for name, z in WRITTEN])
def test_what_pytorch_writes_is_read_as_pytorch_reads_it(name: str, zip_: bool, tmp_path: Path) -> None:
    torch.save(CONTENTS[name](), tmp_path / "w.pt", _use_new_zipfile_serialization=zip_)
    expected = torch.load(tmp_path / "w.pt", weights_only=True)
    expected = expected.get("state_dict", expected)
    source = bridge.read(tmp_path / "w.pt")
    assert list(source) == list(expected)
    for key, value in expected.items():
        narrow = value.is_floating_point() and (value.itemsize < 2 or value.dtype == torch.bfloat16)
        array = (value.float() if narrow else value).detach().numpy()
        assert source.shapes[key] == array.shape
        assert source[key].dtype == array.dtype
        np.testing.assert_array_equal(source[key], array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(protocol: int, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save({"model": module.state_dict(), "n": {"x" * 300: {4}}}, tmp_path / "w.pt", pickle_protocol=protocol)
    source = bridge.read(tmp_path / "w.pt")
    assert len(source) == 7
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(source[name.replace(".", "/")], value.numpy())


def test_big_endian_numbers_are_read(tmp_path: Path) -> None:
    wide, narrow = torch.tensor([1.5, -2.0, 3.25]), torch.tensor([1.5, -2.0])
    numbers = [
        wide.numpy().astype(">f4").tobytes(),
        narrow.bfloat16().view(torch.int16).numpy().astype(">i2").tobytes(),
    ]
    tensors = {"w": tensor((3,), (1,), storage("0", 3)), "v": tensor((2,), (1,), storage("1", 2, "BFloat16Storage"))}
    zipped(dictionary(**tensors), numbers, byteorder=b"big")(tmp_path / "w.pt")
    source = bridge.read(tmp_path / "w.pt")
    np.testing.assert_array_equal(source["w"], wide.numpy())
    np.testing.assert_array_equal(source["v"], narrow.numpy())


def test_a_state_dict_that_python_2_wrote_is_read(tmp_path: Path) -> None:
    """Its OrderedDict is made of pairs, and its texts are bytes."""
    pairs = b"](](U\x04fc.w" + tensor((2,), (1,), storage("0", 2)) + b"ee"
    zipped(b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R.", [struct.pack("<2f", 1, 2)])(tmp_path / "w.pt")
    np.testing.assert_array_equal(bridge.read(tmp_path / "w.pt")["fc/w"], [1.0, 2.0])


def test_an_old_view_of_a_part_of_a_storage_is_read(tmp_path: Path) -> None:
    content = dictionary(w=old(5, text("1"), number(3), number(2)))
    in_a_row(content, ["0"], struct.pack("<q5f", 5, 0, 1, 2, 3, 4))(tmp_path / "w.pt")
    np.testing.assert_array_equal(bridge.read(tmp_path / "w.pt")["w"], [3.0, 4.0])
