"""Files say what was written to them, so that one changed bit is found and the tensor it is in is named."""

import collections
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import bridge
from bridge.files import integrity
from bridge.torch_files import pickled_files, safetensors_files

State = dict[str, torch.Tensor]
Write = Callable[[State, Path], object]


def state() -> State:
    torch.manual_seed(5)
    return {
        "features.10.weight": torch.randn(3, 2),
        "features.2.weight": torch.randn(2, 3, 1),
        "features.2.bias": torch.randn(2).bfloat16(),
        "scale": torch.tensor(0.5),
        "steps": torch.tensor([7]),
        "none": torch.zeros(0, 4),
    }


def write_safetensors(tensors: State, path: Path) -> None:
    safetensors_files.write(tensors, path, {"format": "made here", "order": "\n".join(tensors)})


WRITERS: dict[str, Write] = {"safetensors": write_safetensors, "pt": pickled_files.write}


def net() -> nn.Module:
    return nn.Sequential(collections.OrderedDict(one=nn.Linear(3, 2), two=nn.Linear(2, 2)))


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_what_was_written_is_read(write: Write, tmp_path: Path) -> None:
    tensors = state()
    write(tensors, tmp_path / "w")
    source = bridge.read(tmp_path / "w")
    assert list(source) == [name.replace(".", "/") for name in tensors]
    for name, tensor in tensors.items():
        key = name.replace(".", "/")
        assert source.shapes[key] == tuple(tensor.shape)
        assert source.stored[key].dtype == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(source[key], (tensor.float() if tensor.itemsize == 2 else tensor).numpy())


def unharmed_places(write: Write, path: Path, step: int) -> list[int]:
    """Where a bit changed and nothing noticed; what was read then was what had been written."""
    write(state(), path)
    whole, expected = path.read_bytes(), {key: array.tobytes() for key, array in bridge.read(path).items()}
    unharmed, refusals = [], []
    for place in range(0, 8 * len(whole), step):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            given = {key: array.tobytes() for key, array in bridge.read(path).items()}
        except bridge.BridgeError as error:
            refusals.append(str(error))
        else:
            assert given == expected, place
            unharmed.append(place)
    assert all(str(path) in refusal and refusal.isprintable() for refusal in refusals)
    return unharmed


@pytest.mark.parametrize("step", [67, pytest.param(1, marks=pytest.mark.slow)], ids=["some bits", "every bit"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_any_one_changed_bit_is_found_or_changes_nothing(write: Write, step: int, tmp_path: Path) -> None:
    unharmed = unharmed_places(write, tmp_path / "w", step)
    # Every bit of .safetensors counts; an archive is filled up to round places, and says when it was made.
    assert write is not write_safetensors or unharmed == []


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_damaged_tensor_is_named_and_nothing_is_loaded(write: Write, unchanged: Any, tmp_path: Path) -> None:
    tensors, path = net().state_dict(), tmp_path / "w"
    write(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(tensors["two.bias"].numpy().tobytes(), struct.pack("<2f", 1, 2)))
    assert path.read_bytes() != content
    module = net()
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"is damaged: two\.bias is not what was written.* Get the file"):
        bridge.load(module, path)
    assert same()
    plan = bridge.load(module, path, skip="two/bias")
    assert len(plan.copied) == 3
    assert torch.equal(module.two.weight, tensors["two.weight"])


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    given: dict[str, Any] = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    return given


def with_header(path: Path, header: dict[str, Any]) -> None:
    content = path.read_bytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + struct.unpack("<Q", content[:8])[0] :])


def renamed(header: dict[str, Any]) -> None:
    header["features.2.weighu"] = header.pop("features.2.weight")


def swapped(header: dict[str, Any]) -> None:
    one, two = header["features.10.weight"], header["features.2.weight"]
    one["data_offsets"], two["data_offsets"] = two["data_offsets"], one["data_offsets"]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a note": (lambda header: header["__metadata__"].update(format="made there"), "its header"),
    "one note more": (lambda header: header["__metadata__"].update(more="1"), "its header"),
    "a shape": (lambda header: header["features.2.weight"].update(shape=[3, 2, 1]), "its header"),
    "a type": (lambda header: header["features.2.bias"].update(dtype="F16"), "its header"),
    "a name": (renamed, "its header"),
    "the header's digest alone": (lambda header: header["__metadata__"].pop("sha256"), "its header"),
    "the tensors' digests alone": (lambda header: header["__metadata__"].pop("sha256_header"), "its header"),
    "which bytes are whose": (swapped, r"features\.(2|10)\.weight"),
}


@pytest.mark.parametrize(("change", "what"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_header_is_found(change: Callable[[dict[str, Any]], object], what: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(state(), path)
    header = header_of(path)
    change(header)
    with_header(path, header)
    with pytest.raises(bridge.BridgeError, match=rf"is damaged: {what} is not what was written, its SHA-256"):
        dict(bridge.read(path))


def test_the_same_tensors_and_notes_in_another_order_are_the_same(tmp_path: Path) -> None:
    """As when another program reads the file and writes it again."""
    path, again = tmp_path / "w.safetensors", tmp_path / "again.safetensors"
    write_safetensors(state(), path)
    with safe_open(path, framework="pt") as opened:
        save_file(load_file(path), again, opened.metadata())
    source = bridge.read(again)
    assert list(source) == list(bridge.read(path))
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(source[key], array)


@pytest.mark.parametrize("checksums", [True, False])
def test_files_of_others_need_no_digests(checksums: bool, tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(state(), tmp_path / "w.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    save_file(state(), tmp_path / "w.safetensors")
    one, two = bridge.read(tmp_path / "w.pt"), bridge.read(tmp_path / "w.safetensors")
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_a_tensor_is_held_against_its_digest_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors(state(), tmp_path / "w.safetensors")
    hashed: list[str] = []
    real = integrity.of_bytes

    def counted(name: str, *rest: Any) -> str:
        hashed.append(name)
        return real(name, *rest)

    monkeypatch.setattr(integrity, "of_bytes", counted)
    source = bridge.read(tmp_path / "w.safetensors")
    assert hashed == []
    for _ in range(3):
        assert source["scale"] == 0.5
    assert hashed == ["scale"]


# What is written.


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    tensors = state()
    WRITERS["safetensors"](tensors, tmp_path / "w.safetensors")
    WRITERS["pt"](tensors, tmp_path / "w.pt")
    for given in (load_file(tmp_path / "w.safetensors"), torch.load(tmp_path / "w.pt", weights_only=True)):
        assert given.keys() == tensors.keys()
        assert all(torch.equal(given[name], tensor) for name, tensor in tensors.items())


DTYPES = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 uint16 bool complex64"


@pytest.mark.parametrize("dtype", DTYPES.split())
def test_every_type_is_written_and_read(dtype: str, tmp_path: Path) -> None:
    tensor = torch.tensor([[0, 1, 2], [3, 4, 7]]).to(getattr(torch, dtype))
    write_safetensors({"odd": torch.tensor([True]), "fc.weight": tensor, "b": torch.ones(1)}, tmp_path / "w")
    given = load_file(tmp_path / "w")["fc.weight"]
    assert given.dtype == tensor.dtype
    assert torch.equal(given.view(torch.uint8), tensor.view(torch.uint8))
    array = bridge.read(tmp_path / "w")["fc/weight"]
    np.testing.assert_array_equal(array, (tensor.float() if tensor.is_floating_point() else tensor).numpy())


TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "every other": lambda: torch.arange(12.0)[::2],
    "channels last": lambda: torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "a parameter": lambda: nn.Parameter(torch.arange(3.0)),
    "conjugated": lambda: torch.tensor([1 + 2j, 3 - 1j]).conj(),
}


@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS.keys())
def test_a_tensor_is_written_in_order_however_it_lies_in_memory(
    make: Callable[[], torch.Tensor], tmp_path: Path
) -> None:
    tensor = make()
    write_safetensors({"w": tensor, "tied": tensor}, tmp_path / "w")
    given = load_file(tmp_path / "w")
    assert torch.equal(given["w"], tensor)
    assert torch.equal(given["tied"], tensor)
    assert torch.equal(torch.from_numpy(bridge.read(tmp_path / "w")["w"]), tensor.resolve_conj().detach())


REFUSED: dict[str, tuple[str, Callable[[], torch.Tensor]]] = {
    "sparse": ("w", lambda: torch.eye(2).to_sparse()),
    "meta": ("w", lambda: torch.ones(2, device="meta")),
    "the name of the notes": ("__metadata__", lambda: torch.ones(2)),
    "half a character": ("\ud800", lambda: torch.ones(2)),
}


@pytest.mark.parametrize(("name", "make"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_format_cannot_hold_is_refused(name: str, make: Callable[[], torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(bridge.BridgeError, match="cannot be"):
        write_safetensors({name: make()}, tmp_path / "w")


def test_a_note_of_any_text_is_written(tmp_path: Path) -> None:
    """A file's name may hold bytes that are no text."""
    tensors = {"w": torch.ones(1), 'é".w': torch.zeros(1)}
    safetensors_files.write(tensors, tmp_path / "w", {"source_file": "caf\udce9", "text": 'é"\\\n'})
    with safe_open(tmp_path / "w", framework="pt") as opened:
        assert opened.metadata()["source_file"] == "caf?"
        assert opened.metadata()["text"] == 'é"\\\n'
    assert set(bridge.read(tmp_path / "w")) == {"w", 'é"/w'}


# The digest itself, which other formats keep beside an array.


def test_a_digest_is_of_the_name_the_type_the_shape_and_every_bit() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    changed = array.copy()
    changed.view(np.uint32)[1, 2] ^= 1
    others = [("v", array), ("w", array.reshape(3, 2)), ("w", array.view(np.int32)), ("w", changed)]
    assert len({integrity.digest("w", array), *(integrity.digest(*other) for other in others)}) == 5


def test_a_digest_is_of_the_numbers_however_they_lie_in_memory() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for same in (array.astype(">f4"), np.asfortranarray(array), np.repeat(array, 2, axis=0)[::2]):
        assert integrity.digest("w", same) == integrity.digest("w", array)


def test_a_digest_is_the_same_on_one_core_and_on_many(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).standard_normal(3 << 20)
    many = integrity.digest("w", array)
    monkeypatch.setattr(integrity, "MOST_THREADS", 1)
    assert integrity.digest("w", array) == many
    array[-1] += 1
    assert integrity.digest("w", array) != many
