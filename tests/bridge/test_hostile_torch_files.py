"""Damaged and crafted .pt and .safetensors files: each gives what PyTorch would give, or one line."""

import collections
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.torch_files import read_pickled, safetensors_files

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[[Path], object]

# What PyTorch writes, read as PyTorch reads it.


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
    for key, tensor in expected.items():
        narrow = tensor.is_floating_point() and (tensor.itemsize < 2 or tensor.dtype == torch.bfloat16)
        array = (tensor.float() if narrow else tensor).detach().numpy()
        assert source.shapes[key] == array.shape
        assert source[key].dtype == array.dtype
        np.testing.assert_array_equal(source[key], array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(protocol: int, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save({"model": module.state_dict(), "n": {"x" * 300: {4}}}, tmp_path / "w.pt", pickle_protocol=protocol)
    source = bridge.read(tmp_path / "w.pt")
    assert len(source) == 7
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(source[name.replace(".", "/")], tensor.numpy())


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


# Pickles by hand.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def dictionary(**values: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in values.items()) + b"u."


def storage(key: str = "0", length: int = 1, kind: str = "FloatStorage", *more: bytes) -> bytes:
    return tuple_of(text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), number(length), *more) + b"Q"


def tensor(size: Any, stride: Any, where: bytes | None = None, offset: int = 0, rest: bytes = b"") -> bytes:
    sizes, strides = (tuple_of(*map(number, each)) for each in (size, stride))
    parts = [where or storage(), number(offset), sizes, strides, b"\x89", b"ccollections\nOrderedDict\n)R", rest]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_of(*parts) + b"R"


def call(name: str, *values: bytes) -> bytes:
    return f"c{name}\n".replace(" ", "\n").encode() + tuple_of(*values) + b"R"


def zipped(content: bytes, storages: Any = (b"\0" * 4,), method: int = 0, **more: bytes) -> Make:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in {"data.pkl": content, **more}.items():
                archive.writestr(f"w/{name}", data)
            for key, data in enumerate(storages):
                archive.writestr(f"w/data/{key}", data)

    return write


def in_a_row(content: bytes, keys: Any, numbers: bytes) -> Make:
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return lambda path: path.write_bytes(b"".join([*parts, content, pickle.dumps(keys, 2), numbers]))


def old(length: int, *part: bytes) -> bytes:
    return tensor((2,), (1,), storage("0", length, "FloatStorage", tuple_of(*part) if part else b"N"))


def test_an_old_view_of_a_part_of_a_storage_is_read(tmp_path: Path) -> None:
    content = dictionary(w=old(5, text("1"), number(3), number(2)))
    in_a_row(content, ["0"], struct.pack("<q5f", 5, 0, 1, 2, 3, 4))(tmp_path / "w.pt")
    np.testing.assert_array_equal(bridge.read(tmp_path / "w.pt")["w"], [3.0, 4.0])


def saved(content: Callable[[], Any]) -> Make:
    return lambda path: torch.save(content(), path)


def large(make: Callable[[], Make]) -> Make:
    """One whose content is made when it is written."""
    return lambda path: make()(path)


def repacked(method: int, change: Callable[[list[tuple[str, bytes]]], None] = lambda _: None) -> Make:
    def write(path: Path) -> None:
        held = io.BytesIO()
        torch.save({"w": torch.ones(3)}, held)
        with zipfile.ZipFile(held) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        change(members)
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)

    return write


def again(members: list[tuple[str, bytes]]) -> None:
    members.append(("other/data.pkl", members[0][1]))


def with_code(members: list[tuple[str, bytes]]) -> None:
    members.append((members[0][0].replace("data.pkl", "code/__torch__.py"), b"class Net(Module): ..."))


def elsewhere(members: list[tuple[str, bytes]]) -> None:
    members.append(("archive/../../etc/passwd", b""))


MORE = "it holds more than tensors and plain values"
MANY = 10**12
PAIRS = b"\x80\x02ccollections\nOrderedDict\nq\0](" + b"X\1\0\0\0aN\x86" * 400_000 + b"eq\1" + b"h\0h\1\x85R" * 9

DIGITS = b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000  # a whole number

PICKLED: dict[str, tuple[Make, str]] = {
    "a function": (zipped(dictionary(a=call("os system", text("true")))), MORE + ": 'os.system'"),
    "a function by another instruction": (
        zipped(b"\x80\x04\x8c\2os\x8c\6system\x93\x8c\4true\x85R."),
        MORE + ": 'os.system'",
    ),
    "eval": (zipped(dictionary(a=call("__builtin__ eval", text("1")))), MORE),
    "getattr": (zipped(dictionary(a=call("builtins getattr", text("a"), text("b")))), MORE),
    "a function in a function": (
        zipped(dictionary(a=call("torch._tensor _rebuild_from_type_v2", b"cos\nsystem\n", b"N", b")", b"N"))),
        MORE,
    ),
    "another class in a tensor's place": (
        zipped(
            dictionary(a=call("torch._tensor _rebuild_from_type_v2", b"ctorch\nSize\n", b"ctorch\nSize\n", b")", b"N"))
        ),
        "a tensor of a class of its own",
    ),
    "an object's state": (zipped(dictionary(a=call("torch FloatTensor", number(MANY)))), MORE),
    "a whole module": (saved(lambda: nn.Linear(2, 2)), "Save a state dict"),
    "a module in an old file": (
        in_a_row(b"\x80\x02" + tuple_of(text("module"), b"N") + b"Q.", [], b""),
        "a whole module",
    ),
    "TorchScript": (repacked(0, with_code), "is a TorchScript program. Save a state dict"),
    "a sparse tensor": (saved(lambda: {"w": torch.eye(2).to_sparse()}), "w is a sparse tensor. Save it dense"),
    "a compressed sparse tensor": (
        saved(lambda: {"w": torch.eye(2).to_sparse(layout=torch.sparse_csr)}),
        "w is a sparse tensor",
    ),
    "a meta tensor": (saved(lambda: {"w": torch.ones(2, device="meta")}), "w is a meta tensor, which has no numbers"),
    "a meta tensor of terabytes": (saved(lambda: {"w": torch.ones(MANY, device="meta")}), "w is a meta tensor"),
    "a negated view": (
        saved(lambda: {"w": torch.tensor([1 + 2j]).conj().imag}),
        "w is a conjugated or negated view. Save what it shows",
    ),
    "complex halves": (saved(lambda: {"w": torch.zeros(2, dtype=torch.complex32)}), "w is a tensor of complex32"),
    "a small storage shown as terabytes": (zipped(dictionary(a=tensor((MANY,), (0,)))), "repeats numbers"),
    "many tensors of one storage": (
        large(
            lambda: zipped(
                dictionary(**{f"t{n}": tensor((1 << 22,), (1,), storage("0", 1 << 22)) for n in range(300)}),
                (bytes(1 << 24),),
            )
        ),
        "repeats numbers: its tensors take 5033164800 bytes, of which it holds 16777216",
    ),
    "an offset before the start": (zipped(dictionary(a=tensor((1,), (1,), offset=-1))), "a size that is none"),
    "an offset behind the end": (zipped(dictionary(a=tensor((1,), (1,), offset=1))), "reaches past the 4 bytes"),
    "an offset beyond numbers": (zipped(dictionary(a=tensor((1,), (1,), offset=2**63))), "a size that is none"),
    "steps past the end": (zipped(dictionary(a=tensor((2, 2), (2, 1), storage("0", 3)))), "reaches past the 12 bytes"),
    "steps that overflow": (zipped(dictionary(a=tensor((2, 2), (2**62, 1)))), "a size that is none"),
    "steps backwards": (zipped(dictionary(a=tensor((2,), (-1,)))), "a size that is none"),
    "sizes that overflow": (zipped(dictionary(a=tensor((2**40, 2**40), (0, 0)))), "of a shape that none can have"),
    "sizes that overflow beside none": (
        zipped(dictionary(a=tensor((0, 2**40, 2**40), (0, 0, 0)))),
        "of a shape that none can have",
    ),
    "a size below none": (zipped(dictionary(a=tensor((-2,), (1,)))), "of a shape that none can have"),
    "a hundred axes": (zipped(dictionary(a=tensor((1,) * 100, (1,) * 100))), "of a shape that none can have"),
    "a size that is no number": (
        zipped(dictionary(a=tensor((1,), (1,)).replace(number(1) + b"t(", b"\x88t(", 1))),
        "of a shape that none can have",
    ),
    "sizes of millions of digits": (
        large(lambda: zipped(b"\x80\x02" + DIGITS + b"q\1" + tuple_of(*[b"h\1"] * 32) + b".")),
        "it holds a whole number of 4000000 bytes",
    ),
    "as many digits as a number may have": (
        zipped(dictionary(a=tensor((2**250,) * 32, (1,) * 32))),
        "of a shape that none can have",
    ),
    "an axis without a step": (zipped(dictionary(a=tensor((1, 1), (1,)))), "a step too many or too few"),
    "a storage of terabytes": (
        zipped(dictionary(a=tensor((MANY,), (1,), storage("0", MANY)))),
        "it holds 4 of its bytes where a storage of 4000000000000 bytes should be",
    ),
    "a storage that is larger than it says": (
        zipped(dictionary(a=tensor((1,), (1,))), (bytes(8),)),
        "it holds 8 of its bytes where a storage of 4 bytes should be",
    ),
    "a storage that is not there": (
        zipped(dictionary(a=tensor((1,), (1,), storage("9", 1)))),
        "it holds nothing where a storage",
    ),
    "a storage of two sizes": (
        zipped(dictionary(a=tensor((1,), (1,)), b=tensor((1,), (1,), storage("0", 2)))),
        "two sizes of one storage",
    ),
    "a storage of no type": (
        zipped(dictionary(a=tensor((1,), (1,), storage("0", 1, "Size")))),
        "a storage of an unknown type",
    ),
    "a storage elsewhere": (zipped(dictionary(a=tensor((1,), (1,), storage("../../x", 1)))), "it holds nothing"),
    "a tensor of a tensor": (
        zipped(dictionary(a=tensor((1,), (1,), tensor((1,), (1,))))),
        "a tensor without numbers",
    ),
    "a text that is longer than the file": (zipped(b"\x80\x02X\xff\xff\xff\xffa."), "it breaks off"),
    "a number of negative length": (zipped(b"\x80\x02\x8b\xff\xff\xff\xff."), "it breaks off"),
    "an unknown instruction": (zipped(b"\x80\x02\xff."), "is no instruction of a pickle"),
    "an empty stack": (zipped(b"\x80\x02."), "it makes no sense"),
    "nothing in the memory": (zipped(b"\x80\x02h\7."), "it makes no sense"),
    "entries of a list": (zipped(b"\x80\x02](NNu."), "adds entries to what is no dictionary"),
    "half an entry": (zipped(b"\x80\x02}(Nu."), "it makes no sense"),
    "items of a text": (zipped(b"\x80\x02" + text("a") + b"Na."), "adds to what is no list"),
    "no end": (zipped(b"\x80\x02}"), "it breaks off"),
    "work without end": (zipped(PAIRS), "it takes more than 1000000 steps"),
    "dictionaries without end": (
        large(lambda: zipped(b"\x80\x02" + b"}" * 20_000_000 + b".")),
        "more than 1000000 steps",
    ),
    "lists that are remembered": (
        zipped(b"\x80\x04" + b"]\x94" * 480_000 + b"."),
        "holds no tensors by name",
    ),
    "a tuple in a tuple": (zipped(b"\x80\x02)" + b"\x85" * 900_000 + b"."), "holds no tensors by name"),
    "a pickle of 40 MiB": (large(lambda: zipped(bytes(40 << 20))), "its data.pkl takes 41943040 bytes"),
    "a bomb": (
        large(lambda: zipped(bytes(1 << 27), method=zipfile.ZIP_DEFLATED)),
        "is compressed, which torch.save never does",
    ),
    "compressed numbers": (repacked(zipfile.ZIP_DEFLATED), "is compressed"),
    "two pickles": (repacked(0, again), "it holds more than one data.pkl"),
    "a name that points elsewhere": (repacked(0, elsewhere), "points outside the archive"),
    "an unknown byte order": (zipped(dictionary(), byteorder=b"middle"), "a byte order that is not known"),
    "an old storage of terabytes": (in_a_row(dictionary(a=old(MANY)), ["0"], struct.pack("<q", MANY)), "breaks off"),
    "an old storage of negative length": (
        in_a_row(dictionary(a=old(2)), ["0"], struct.pack("<q2f", -2, 0, 0)),
        "breaks",
    ),
    "an old storage that is cut off": (in_a_row(dictionary(a=old(2)), ["0"], struct.pack("<qf", 2, 0)), "breaks off"),
    "an old storage without a length": (in_a_row(dictionary(a=old(2)), ["0"], b"\2"), "breaks off"),
    "an old storage that is not there": (in_a_row(dictionary(a=old(2)), [], b""), "it holds nothing where"),
    "an old storage of no tensor": (in_a_row(dictionary(), ["7"], struct.pack("<q", 0)), "what its numbers are for"),
    "an old storage twice": (
        in_a_row(dictionary(a=old(1)), ["0", "0"], struct.pack("<qfqf", 1, 0, 1, 0)),
        "reaches past the 4 bytes",
    ),
    "old keys that are none": (in_a_row(dictionary(), {"0": 1}, b""), "which numbers follow"),
    "an old part that is larger than the whole": (
        in_a_row(dictionary(a=old(2, text("1"), number(1), number(2))), ["0"], struct.pack("<q2f", 2, 0, 0)),
        "shows more of a storage than that has",
    ),
    "another protocol": (
        lambda path: path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1, 2)),
        "protocol",
    ),
    "names that are one": (
        saved(lambda: {"a.b": torch.ones(1), "a/b": torch.ones(1)}),
        "a.b and a/b are one name, a/b",
    ),
    "a very long name": (large(lambda: saved(lambda: {"n" * 5_000_000: torch.ones(1)})), "of 5000000 characters"),
    "a name that is a slash": (saved(lambda: {"/": torch.ones(1)}), "names a weight '/', a part of which is empty"),
    "a name that begins with a slash": (saved(lambda: {"/w": torch.ones(1)}), "names a weight '/w', a part of"),
    "a name beside nothing": (saved(lambda: {"w": torch.ones(1), ".w": torch.ones(1)}), "w and .w are one name, w"),
}

# Headers by hand.


def headed(header: Any, numbers: bytes = b"", length: int | None = None) -> Make:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(data) if length is None else length) + data + numbers)


def entry(dtype: str, shape: list[Any], start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}


ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS: dict[str, tuple[Make, str]] = {
    "a header of exabytes": (headed(b"{}", length=2**63 - 1), "its header should take 9223372036854775807 bytes"),
    "a header of all bytes": (headed(b"{}", length=2**64 - 1), "its header should take"),
    "a header of 100 MB": (
        large(lambda: headed(b'{"a":"' + b"x" * (100 << 20) + b'"}')),
        "its header should take 104857608 bytes",
    ),
    "a header that is cut off": (headed(b"{" + ONE + b"}", length=60), "its header should take 60 bytes"),
    "a header of lists": (
        large(lambda: headed(b'{"a":[' + b"[]," * 9_000_000 + b"1]}")),
        "has more than 150000 values",
    ),
    "a header of as many lists as may be": (
        large(lambda: headed(b'{"a":[' + b"[]," * 74_000 + b"1]}")),
        "does not say what a is",
    ),
    "half a header": (headed(b'{"a":'), "its header is no JSON"),
    "a deep header": (headed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "its header is no JSON"),
    "a header and more": (headed(b"{} {}"), "its header is no JSON"),
    "a header that is no text": (headed(b'{"\xff":1}'), "its header is no JSON"),
    "an endless number": (headed(b'{"a":' + b"9" * 10_000 + b"}"), "its header is no JSON"),
    "a tensor twice": (headed(b"{" + ONE + b"," + ONE + b"}", bytes(4)), "names something twice"),
    "a note twice": (headed(b'{"__metadata__":{"x":"1","x":"2"},' + ONE + b"}", bytes(4)), "names something twice"),
    "notes that are no text": (headed({"__metadata__": {"a": 1}}), "its notes are no text"),
    "tensors that overlap": (
        headed({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)),
        "b begins -4 bytes behind the tensor before it",
    ),
    "a gap": (headed({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)), "b begins 4 bytes"),
    "a gap at the end": (headed({"a": entry("F32", [1], 0, 4)}, bytes(12)), "end 8 bytes before the file does"),
    "a gap at the beginning": (headed({"a": entry("F32", [1], 4, 8)}, bytes(8)), "a begins 4 bytes"),
    "numbers that are cut off": (headed({"a": entry("F32", [3], 0, 12)}, bytes(8)), "end -4 bytes before"),
    "an end before its start": (headed({"a": entry("F32", [1], 4, 0)}, bytes(4)), "a is F32 [1] in -4 bytes"),
    "another size": (headed({"a": entry("F32", [2], 0, 4)}, bytes(4)), "a is F32 [2] in 4 bytes"),
    "a size that overflows": (headed({"a": entry("F32", [2**33, 2**33], 0, 4)}, bytes(4)), "say where a is"),
    "a size that overflows beside none": (headed({"a": entry("F32", [2**33, 2**33, 0], 0, 0)}), "say where a is"),
    "a size below none": (headed({"a": entry("F32", [-1], 0, 4)}, bytes(4)), "does not say where a is"),
    "a size that is no number": (headed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'), "holds NaN"),
    "a size that is not whole": (headed({"a": entry("F32", [1.0], 0, 4)}, bytes(4)), "does not say where a is"),
    "a size that is true": (headed({"a": entry("F32", [True], 0, 4)}, bytes(4)), "does not say where a is"),
    "a hundred axes": (headed({"a": entry("F32", [1] * 100, 0, 4)}, bytes(4)), "does not say where a is"),
    "no shape": (headed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "does not say what a is"),
    "three offsets": (headed({"a": entry("F32", [1], 0, 4) | {"data_offsets": [0, 4, 4]}}, bytes(4)), "say where a is"),
    "half bytes": (headed({"a": entry("F4", [8], 0, 4)}, bytes(4)), "a is of a type that cannot be read, F4"),
    "an unknown type": (headed({"a": entry("F33", [1], 0, 4)}, bytes(4)), "of a type that cannot be read, F33"),
    "a type that is none": (headed({"a": entry([1], [1], 0, 4)}, bytes(4)), "of a type that cannot be read"),  # type: ignore[arg-type]
    "names that are one": (
        headed({"a.b": entry("F32", [1], 0, 4), "a/b": entry("F32", [1], 4, 8)}, bytes(8)),
        "are one name, a/b",
    ),
    "a digest that is none": (
        headed({"__metadata__": {"sha256": "x"}, "a": entry("F32", [1], 0, 4)}, bytes(4)),
        "its header is not what was written",
    ),
    "a very long name": (
        large(lambda: headed({"n" * 8_000_000: entry("F32", [0], 0, 0), "b": entry("F32", [0], 0, 0)})),
        "nnn, of 8000000 characters, more than 20000. Get the file from its author",
    ),
    "a prefix again and again": (
        large(lambda: headed({"module." * 500_000 + "weight": entry("F32", [0], 0, 0)})),
        "weight, of 3500006 characters, more than 20000",
    ),
    "a name of numbers": (large(lambda: headed({"1a" * 2_000_000: entry("F32", [0], 0, 0)})), "4000000 characters"),
    "a name that commands": (headed({"\x1b[31m\nred": 1}), "does not say what '\\x1b[31m\\nred' is"),
}
HOSTILE = {f"pt: {name}": case for name, case in PICKLED.items()}
HOSTILE |= {f"safetensors: {name}": case for name, case in HEADERS.items()}

# Reading runs in processes of its own that report how much memory they took.
READER = """
import json, os, resource, signal, sys, time
from pathlib import Path
import bridge

def taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    child = os.fork()
    if not child:
        signal.alarm(15)
        before, answer = taken(), {}
        try:
            source = bridge.read(path)
            answer["shapes"] = [array.shape for array in source.values()]
        except bridge.BridgeError as error:
            answer["error"] = str(error)
        except BaseException as error:
            answer["unexpected"] = repr(error)
        answer["mebibytes"] = (taken() - before) >> 10
        os.write(1, json.dumps(answer).encode() + b"\\n")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        os.write(1, json.dumps({"unexpected": status}).encode() + b"\\n")
"""


@pytest.fixture(scope="module")
def reader() -> Any:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def read(path: Path) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        given: dict[str, Any] = json.loads(process.stdout.readline())
        return given

    with process:
        yield read
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, of what is made here
@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_one_line_and_takes_little_memory(
    make: Make, message: str, reader: Any, tmp_path: Path
) -> None:
    path = tmp_path / "w"
    make(path)
    given = reader(path)
    assert "unexpected" not in given, given
    assert message in given["error"]
    assert str(path) in given["error"] or path.name in given["error"]
    assert given["error"].isprintable()
    assert len(given["error"]) < 400
    assert given["mebibytes"] < 256
    assert path.stat().st_size < 120 << 20


UNUSUAL: dict[str, tuple[Make, dict[str, tuple[int, ...]]]] = {
    "no numbers at all": (headed({"a": entry("F32", [2**40, 0], 0, 0)}), {"a": (2**40, 0)}),
    "a single number": (headed({"a": entry("F32", [], 0, 4)}, bytes(4)), {"a": ()}),
    "more said of a tensor": (headed({"a": entry("F32", [1], 0, 4, by="me")}, bytes(4)), {"a": (1,)}),
    "an odd place": (headed(b"{" + ONE + b"} ", bytes(4)), {"a": (1,)}),
    "an empty name": (headed({"": entry("I8", [1], 0, 1)}, bytes(1)), {"": (1,)}),
    "a deep note of how images are prepared": (
        headed({"__metadata__": {"preprocessing": "[" * 100_000}, "a": entry("F32", [1], 0, 4)}, bytes(4)),
        {"a": (1,)},
    ),
    "notes alone": (headed({"__metadata__": {"a": "b"}}), {}),
    "many digits": (headed({"9" * 5000: entry("I8", [1], 0, 1), "9": entry("I8", [1], 1, 2)}, bytes(2)), {}),
    "a step of no size": (zipped(dictionary(a=tensor((1, 1), (2**50, 7)))), {"a": (1, 1)}),
    "a prefix as often as may be": (
        headed({"module." * 2500 + f"layer.{n}": entry("I8", [1], n, n + 1) for n in range(1000)}, bytes(1000)),
        {f"layer/{n}": (1,) for n in range(1000)},
    ),
    "a whole view": (zipped(dictionary(a=tensor((1 << 20,), (0,)))), {"a": (1 << 20,)}),
}


@pytest.mark.parametrize(("make", "shapes"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_an_unusual_file_is_read(make: Make, shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    make(tmp_path / "w")
    source = bridge.read(tmp_path / "w")
    assert not shapes or source.shapes == shapes
    assert [array.shape for array in source.values()] == list(source.shapes.values())


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
