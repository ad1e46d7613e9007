"""Files of PyTorch and safetensors that are written by hand: what no torch.save would write."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Make = Callable[[Path], object]


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


def headed(header: Any, numbers: bytes = b"", length: int | None = None) -> Make:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(data) if length is None else length) + data + numbers)


def entry(dtype: str, shape: list[Any], start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}
