"""Damaged and crafted .pt and .safetensors files: each gives what PyTorch would give, or one line."""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted_torch_files import (
    Make,
    call,
    dictionary,
    entry,
    headed,
    in_a_row,
    large,
    number,
    old,
    repacked,
    saved,
    storage,
    tensor,
    text,
    tuple_of,
    zipped,
)
from torch import nn

import bridge


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
