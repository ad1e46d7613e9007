"""No HDF5 file, however it was made, does more than be refused: one line, little memory, little time."""

import io
import json
import os
import random
import re
import signal
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

import bridge
from bridge import BridgeError
from bridge.hdf5 import Dataset, isolation, open_file

RED = "red\x1b[31m\nlayer"
Fill = Callable[[h5py.File], object]


def read_all(path: Path, **options: Any) -> None:
    """Ask for everything that a file has at its top."""
    file = open_file(path, **options)
    for name in [*file.root.refused, *file.root.datasets]:
        found = file.child(file.root, name)
        assert isinstance(found, Dataset)
        file.array(found)


def checked(error: BridgeError, path: Path) -> str:
    """A refusal's words: one line that names the file and that a terminal prints as it is."""
    line = str(error)
    assert line.startswith(str(path))
    assert line.isprintable()
    assert line.endswith(".")
    return line


def refusal(path: Path, **options: Any) -> str:
    """The one line with which reading everything in a file is refused."""
    with pytest.raises(BridgeError) as caught:
        read_all(path, **options)
    return checked(caught.value, path)


# What a data set can be, other than numbers in the file. A stray one is no harm, reading it is refused.


def packed(name: str, filters: Callable[[h5p.PropDCID], object]) -> Fill:
    def fill(file: h5py.File) -> None:
        plan = h5p.create(h5p.DATASET_CREATE)
        plan.set_chunk((4,))
        filters(plan)
        dataset = h5d.create(file.id, name.encode(), h5t.IEEE_F32LE, h5s.create_simple((4,)), plan)
        dataset.write(h5s.ALL, h5s.ALL, np.ones(4, "f4"))

    return fill


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset("x", layout)


def named_type(file: h5py.File) -> None:
    file["x"] = np.dtype("f4")


def link(to: h5py.SoftLink | h5py.ExternalLink, name: str = "x") -> Fill:
    return lambda file: file.__setitem__(name, to)


ELSEWHERE: dict[str, tuple[Fill, str]] = {
    "a soft link": (link(h5py.SoftLink("/good")), "'x', a link to another place"),
    "a broken soft link": (link(h5py.SoftLink("/none")), "'x', a link to another place"),
    "a soft link deep inside": (link(h5py.SoftLink("/good"), "a/b/x"), "'x', a link to another place"),
    "an external link": (link(h5py.ExternalLink("/etc/hostname", "/")), "'x', a link to another place"),
    "external storage": (
        lambda file: file.create_dataset("x", (2,), "f4", external=[("/etc/hostname", 0, 8)]),
        "'x', whose numbers are in another file",
    ),
    "a virtual data set": (virtual, "'x', whose numbers are in another file"),
}


@pytest.mark.parametrize(("fill", "message"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_file_that_leads_elsewhere_is_refused_whole(fill: Fill, message: str, isolated: bool, made: Any) -> None:
    def both(file: h5py.File) -> None:
        file["good"] = np.arange(3, dtype="f4")
        fill(file)

    assert message in refusal(made(both), isolated=isolated)


STRAY: dict[str, tuple[Fill, str]] = {
    "text": (lambda file: file.create_dataset("x", data="text"), "holds text, not numbers"),
    "texts": (lambda file: file.create_dataset("x", data=[b"a", b"b"]), "holds text, not numbers"),
    "compounds": (lambda file: file.create_dataset("x", data=np.zeros(2, "f4,i4")), "holds compounds, not numbers"),
    "references": (
        lambda file: file.create_dataset("x", (1,), h5py.ref_dtype),
        "holds references, not numbers",
    ),
    "an enumeration": (
        lambda file: file.create_dataset("x", (1,), h5py.enum_dtype({"a": 0})),
        "holds an enumeration, not numbers",
    ),
    "truths": (lambda file: file.create_dataset("x", data=[True]), "holds an enumeration, not numbers"),
    "complex numbers": (lambda file: file.create_dataset("x", data=[1j]), "not numbers"),
    "lists": (lambda file: file.create_dataset("x", (1,), h5py.vlen_dtype("f4")), "holds lists, not numbers"),
    "arrays": (lambda file: file.create_dataset("x", (1,), "(3,)f4"), "holds arrays, not numbers"),
    "bytes": (lambda file: file.create_dataset("x", data=np.zeros(2, "V3")), "holds bytes of no kind, not numbers"),
    "long doubles": (lambda file: file.create_dataset("x", data=np.zeros(2, np.longdouble)), "not numbers"),
    "nothing": (lambda file: file.create_dataset("x", data=h5py.Empty("f4")), "holds nothing, not numbers"),
    "a type": (named_type, "is a type of data, not numbers"),
    "no storage": (lambda file: file.create_dataset("x", (2**34,), "f4"), "and stores none"),
    "no storage of chunks": (
        lambda file: file.create_dataset("x", (2**20, 2**20), "f4", chunks=(64, 64), compression="gzip"),
        "and stores none",
    ),
    "few of very many chunks": (
        lambda file: file.create_dataset("x", (2**30,), "f4", chunks=(64,)).__setitem__(0, 1.0),
        "more than what it stores can hold",
    ),
    "few of many gzip chunks": (
        lambda file: file.create_dataset("x", (2**24,), "f4", chunks=(64,), compression="gzip").__setitem__(0, 1.0),
        "more than what it stores can hold",
    ),
    "an empty shape of exabytes": (
        lambda file: file.create_dataset("x", (0, 2**62), "f4"),
        "more than any file holds",
    ),
    "very large chunks": (
        lambda file: (
            file.create_dataset("x", (4,), "f4", chunks=(2**27,), maxshape=(None,), compression="gzip")
            and file["x"].id.write_direct_chunk((0,), zlib.compress(bytes(2**20)))
        ),
        "in chunks of",
    ),
    "scale-offset": (packed("x", lambda plan: plan.set_scaleoffset(0, 2)), "is packed by 'scaleoffset'"),
    "n-bit": (packed("x", lambda plan: plan.set_filter(5, 0)), "is packed by 'nbit'"),
    "two packings": (
        packed("x", lambda plan: (plan.set_deflate(1), plan.set_filter(32000, 0))),
        "unpack it first: h5repack",
    ),
    "a packing that is not installed": (
        packed("x", lambda plan: plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1,))),
        "unpack it first: h5repack",
    ),
}


@pytest.mark.parametrize(("fill", "message"), STRAY.values(), ids=STRAY.keys())
def test_what_is_no_array_is_refused_by_name_and_does_not_spoil_the_rest(
    fill: Fill, message: str, isolated: bool, made: Any
) -> None:
    def both(file: h5py.File) -> None:
        file["good"] = np.arange(3, dtype="f4")
        fill(file)

    path = made(both, libver="latest" if message == "and stores none" else None)
    file = open_file(path, isolated=isolated)
    assert list(file.root.refused) == ["x"]
    assert message in file.root.refused["x"]
    np.testing.assert_array_equal(file.array(file.root.datasets["good"]), [0, 1, 2])
    assert message in refusal(path, isolated=isolated)


# Chunks that do not hold what they should: HDF5 would give what lies in memory.


def chunk(content: bytes, mask: int = 0, **options: Any) -> Fill:
    """A data set of twelve numbers in three chunks, of which the second is this."""

    def fill(file: h5py.File) -> None:
        dataset = file.create_dataset("x", data=np.arange(12, dtype="f4"), chunks=(4,), **options)
        dataset.id.write_direct_chunk((4,), content, mask)

    return fill


FOUR = np.arange(4, dtype="f4").tobytes()
CHUNKS: dict[str, Fill] = {
    "a short deflate stream": chunk(zlib.compress(FOUR[:9]), compression="gzip"),
    "an empty deflate stream": chunk(zlib.compress(b""), compression="gzip"),
    "a long deflate stream": chunk(zlib.compress(FOUR * 2), compression="gzip"),
    "a very long deflate stream": chunk(zlib.compress(bytes(10**7)), compression="gzip"),
    "a deflate stream that breaks off": chunk(zlib.compress(FOUR)[:-6], compression="gzip"),
    "a deflate stream with something behind it": chunk(zlib.compress(FOUR) + b"more", compression="gzip"),
    "no deflate stream": chunk(b"x" * 20, compression="gzip"),
    "a short stream that was shuffled": chunk(zlib.compress(FOUR[:12]), compression="gzip", shuffle=True),
    "few bytes that say they are not packed": chunk(FOUR[:8], 1, compression="gzip"),
    "few bytes behind a checksum": chunk(FOUR[:8] + bytes(4), fletcher32=True),
    "a wrong checksum": chunk(FOUR + bytes(4), fletcher32=True),
    "a short LZF chunk": chunk(bytes([3]) + FOUR[:4], compression="lzf"),
    "an LZF chunk that breaks off": chunk(bytes([15]) + FOUR[:9], compression="lzf"),
    "an LZF copy that breaks off": chunk(bytes([3]) + FOUR[:4] + bytes([0xE0]), compression="lzf"),
    "an LZF copy from before the beginning": chunk(bytes([0x3F, 0xFF] * 6), compression="lzf"),
    "an empty LZF chunk": chunk(b"\0", compression="lzf"),
}


@pytest.mark.parametrize("fill", CHUNKS.values(), ids=CHUNKS.keys())
def test_a_chunk_that_does_not_unpack_to_its_size_is_refused(fill: Fill, isolated: bool, made: Any) -> None:
    line = refusal(made(fill), isolated=isolated)
    assert "/x" in line or "x is" in line or "x holds" in line


def test_a_chunk_that_is_missing_is_refused(isolated: bool, made: Any) -> None:
    def fill(file: h5py.File) -> None:
        dataset = file.create_dataset("x", (400,), "f4", chunks=(100,), compression="gzip")
        dataset[:300] = np.random.default_rng(0).standard_normal(300)

    assert "lacks a part of its numbers, at (300,)" in refusal(made(fill), isolated=isolated)


def test_good_chunks_pass_however_they_say_that_they_are_not_packed(isolated: bool, made: Any) -> None:
    values = np.array([0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11], "f4")
    for name, fill in (
        ("masked", chunk(FOUR, 1, compression="gzip")),
        ("gzip", chunk(zlib.compress(FOUR), compression="gzip")),
        ("lzf", chunk(bytes([15]) + FOUR, compression="lzf")),
    ):
        file = open_file(made(fill, name=name), isolated=isolated)
        np.testing.assert_array_equal(file.array(file.root.datasets["x"]), values)


# Whole files.


def cycle(file: h5py.File) -> None:
    file.create_group("a/b")
    file["a/b/up"] = file["a"]


def deep(file: h5py.File) -> None:
    file.create_group("/".join(["d"] * 70))


def ways(file: h5py.File) -> None:
    group = file.create_group("x")
    for _ in range(40):  # 2 ** 40 ways through
        inner = group.create_group("a")
        group["b"], group = inner, inner


def slash(file: h5py.File) -> None:
    file["sXx"] = np.ones(2, "f4")


FILES: dict[str, tuple[Fill, str]] = {
    "a group in itself": (cycle, "holds itself"),
    "the root in itself": (lambda file: file.__setitem__("loop", file["/"]), "holds itself"),
    "seventy groups deep": (deep, "more than 64 deep"),
    "a name that is no text": (
        lambda file: h5py.h5g.create(file.id, b"\xff\xfe"),
        "a name is not UTF-8",
    ),
    "an attribute that is no text": (
        lambda file: file.attrs.__setitem__("a", np.bytes_(b"\xff\xfe")),
        "'a' is not UTF-8",
    ),
    "an attribute's name that is no text": (
        lambda file: h5py.h5a.create(file.id, b"\xff", h5t.STD_I8LE, h5s.create(h5s.SCALAR)),
        "not UTF-8",
    ),
    "very many values in attributes": (
        lambda file: file.attrs.__setitem__("a", np.zeros(100_001, "i1")),
        "more than 100000 values in attributes",
    ),
    "texts that are together too long": (
        lambda file: [file.attrs.__setitem__(str(n), "x" * (12 << 20)) for n in range(3)],
        "more than 33554432 bytes in names and attributes",
    ),
}


@pytest.mark.parametrize(("fill", "message"), FILES.values(), ids=FILES.keys())
def test_a_file_that_holds_what_no_weights_file_does_is_refused(
    fill: Fill, message: str, isolated: bool, made: Any
) -> None:
    assert message in refusal(made(fill, libver="latest"), isolated=isolated)


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 512}], ids=str)
def test_cycles_are_seen_in_every_version_of_the_format(options: dict[str, Any], isolated: bool, made: Any) -> None:
    assert "holds itself" in refusal(made(cycle, **options), isolated=isolated)


def test_endless_ways_through_a_small_file_come_to_an_end(made: Any) -> None:
    assert "more than 20000 groups under another name" in refusal(made(ways))


def test_a_name_with_a_slash_in_it_leads_nowhere(isolated: bool, made: Any) -> None:
    """HDF5 itself would go through the link "s" to what is called "x" there."""

    def fill(file: h5py.File) -> None:
        file["elsewhere/x"] = np.ones(2, "f4")
        slash(file)
        file["t"] = h5py.SoftLink("/elsewhere")

    path = made(fill)
    path.write_bytes(path.read_bytes().replace(b"sXx\0", b"s/x\0"))
    assert "it holds the name 's/x'" in refusal(path, isolated=isolated)


@pytest.mark.parametrize("many", [{}, {"libver": "latest"}], ids=["old", "new"])
def test_a_hundred_thousand_groups_are_refused_in_little_time(many: dict[str, Any], made: Any) -> None:
    def fill(file: h5py.File) -> None:
        root = h5py.h5g.open(file.id, b"/")
        for number in range(100_001):
            root.links.create_hard(b"%d" % number, root, b"g")

    def with_a_group(file: h5py.File) -> None:
        file.create_group("g")
        fill(file)

    path = made(with_a_group, **many)
    begun = time.monotonic()
    assert "more than 100000 names" in refusal(path)
    assert time.monotonic() - begun < 10


def test_sizes_add_up_to_the_limit_under_every_name(isolated: bool, made: Any) -> None:
    def fill(file: h5py.File) -> None:
        for number in range(20):
            file[f"{number}"] = np.zeros(1000, "f4")
        for number in range(20):
            file[f"again {number}"] = file["0"]
        file["text"] = "stray"

    path = made(fill)
    assert len(open_file(path, isolated=isolated, largest=160_000).root.datasets) == 40
    with pytest.raises(BridgeError, match=r"declares 160000 bytes of weights, more than the limit of 159999.*largest="):
        open_file(path, isolated=isolated, largest=159_999)
    with pytest.raises(BridgeError, match="more than the limit of 10"):
        bridge.read(path, isolated=isolated, largest=10)


def tied(count: int) -> Fill:
    """Eight MiB of numbers, under so many names."""

    def fill(file: h5py.File) -> None:
        file["0"] = np.zeros(2 << 20, "f4")
        for number in range(1, count):
            file[f"{number}"] = file["0"]

    return fill


def test_tied_weights_are_read_and_numbers_without_end_are_not(isolated: bool, made: Any) -> None:
    for count in (2, 3, 9):
        file = open_file(made(tied(count)), isolated=isolated)
        assert {dataset.address for dataset in file.root.datasets.values()} == {file.root.datasets["0"].address}
        assert len(file.root.datasets) == count
    with pytest.raises(BridgeError, match=r"repeats numbers: its weights take 83886080 bytes, of which it holds 83886"):
        open_file(made(tied(10)), isolated=isolated)


def test_what_a_small_packed_file_unpacks_to_is_limited(isolated: bool, made: Any) -> None:
    path = made(lambda file: file.create_dataset("x", (2**28,), "f4", chunks=(2**22,), compression="gzip", fillvalue=0))
    with h5py.File(path, "r+") as file:
        full = zlib.compress(bytes(2**24), 9)
        for place in range(0, 2**28, 2**22):
            file["x"].id.write_direct_chunk((place,), full)
    assert path.stat().st_size < 2 << 20
    with pytest.raises(BridgeError, match="declares 1073741824 bytes of weights, more than the limit"):
        open_file(path, isolated=isolated, largest=1 << 29)


# Files that are not whole.


def test_a_file_cut_off_anywhere_is_refused_or_read_right(made: Any, tmp_path: Path) -> None:
    arrays = {name: np.random.default_rng(0).standard_normal((5, 4)).astype("f4") for name in "abc"}

    def fill(file: h5py.File) -> None:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if name == "b" else None)

    for libver in ("earliest", "latest"):
        content, cut = made(fill, libver=libver).read_bytes(), tmp_path / "cut.h5"
        for length in range(1, len(content), max(1, len(content) // 60)):
            cut.write_bytes(content[:length])
            try:
                file = open_file(cut)
                for name, array in arrays.items():
                    np.testing.assert_array_equal(file.array(file.root.datasets[name]), array)
            except BridgeError as error:
                checked(error, cut)


def test_a_data_set_behind_the_end_is_refused_by_name(isolated: bool, made: Any) -> None:
    """With a header that says that the file ends there: old versions of HDF5 do not complain."""
    path = made(lambda file: file.create_dataset("x", data=np.ones(5000, "f4")))
    with h5py.File(path) as file:
        end = file["x"].id.get_offset() + 400
    with path.open("r+b") as raw:
        raw.seek(40)  # where the first version of the format keeps it
        raw.write(struct.pack("<Q", end))
        raw.truncate(end)
    assert re.search("x reaches past the end|is damaged", refusal(path, isolated=isolated))


@pytest.mark.parametrize("kind", ["empty", "a folder", "a FIFO", "/dev/zero", "/dev/null", "missing", "a NUL", "long"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, isolated: bool, tmp_path: Path) -> None:
    path = Path(kind) if kind.startswith("/dev") else tmp_path / "given.h5"
    if kind == "empty":
        path.touch()
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind in ("a NUL", "long"):
        path = tmp_path / ("a\0b" if kind == "a NUL" else "n" * 300)
    begun = time.monotonic()
    for read in (open_file, bridge.read):
        with pytest.raises(BridgeError) as caught:
            read(path, isolated=isolated)
        assert str(caught.value).startswith(str(path).replace("\0", "?"))
        assert str(caught.value).isprintable()
    assert time.monotonic() - begun < 5


# What the reader of Keras's files makes of names and lists that were made up.


@pytest.fixture
def listing(written: Any) -> Callable[..., Path]:
    """A legacy file, changed afterwards."""

    def write(change: Fill, **layers: Any) -> Path:
        path = Path(written(layers or {"dense": {"kernel": np.ones((2, 3), "f4")}}))
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return write


def names(*given: Any) -> Fill:
    return lambda file: file["dense"].attrs.__setitem__("weight_names", list(given))


BROKEN = {
    "class_name": "Functional",
    "config": {
        "layers": [
            {"class_name": "Dense", "config": {}, "inbound_nodes": [{"class_name": "__keras_tensor__", "config": 3}]}
        ]
    },
}


def wrapping(kind: str, record: Any) -> Fill:
    """A wrapper of a layer that says of its inputs what Keras does not."""
    inner = {"class_name": "Dense", "config": {}, "inbound_nodes": [record]}
    layers = [{"class_name": kind, "config": {"layer": inner}}]
    config = json.dumps({"class_name": "Functional", "config": {"layers": layers}})
    return lambda file: file.attrs.__setitem__("model_config", config)


RECORD = {"class_name": "__keras_tensor__"}
KERAS: dict[str, tuple[Fill, str]] = {
    "a weight above its layer": (names("../dense/kernel"), "points outside its layer"),
    "a weight from the root": (names("/dense/kernel"), "points outside its layer"),
    "a weight with an empty part": (names("a//kernel"), "points outside its layer"),
    "a weight twice": (names("kernel", "kernel"), "lists the weight 'kernel' twice"),
    "a weight that is not there": (names(RED), "lists the weight"),
    "a layer with a command in its name": (
        lambda file: file.attrs.__setitem__("layer_names", [RED]),
        "lists the layer",
    ),
    "a layer with a very long name": (
        lambda file: file.attrs.__setitem__("layer_names", ["x" * 60_000]),
        "lists the layer",
    ),
    "a layer from the root": (lambda file: file.attrs.__setitem__("layer_names", ["/dense"]), "outside its layer"),
    "numbers for names": (lambda file: file.attrs.__setitem__("layer_names", [1.5, 2.5]), "lists the layer"),
    "a table for names": (lambda file: file.attrs.__setitem__("layer_names", np.zeros((2, 2))), "lists the layer"),
    "a link for a layer": (
        lambda file: (file.pop("dense"), file.__setitem__("dense", h5py.SoftLink("/"))),
        "a link to another place",
    ),
    "an array for a layer": (
        lambda file: (file.pop("dense"), file.__setitem__("dense", [1.0])),
        "lists the layer 'dense' but does not hold it",
    ),
    "a deep configuration": (
        lambda file: file.attrs.__setitem__("model_config", '{"a":' * 400 + "1" + "}" * 400),
        "nested too deeply",
    ),
    "a very deep configuration": (
        lambda file: file.attrs.__setitem__("model_config", "[" * 100_000),
        "model_config is not readable JSON",
    ),
    "a configuration with a broken record of a tensor": (
        lambda file: file.attrs.__setitem__("model_config", json.dumps(BROKEN)),
        "its model_config describes no model",
    ),
    **{
        f"a {kind} with a broken record of a tensor, {number}": (wrapping(kind, record), "describes no model")
        for kind in ("TimeDistributed", "Bidirectional")
        for number, record in enumerate((RECORD, RECORD | {"config": []}, RECORD | {"config": {"keras_history": [1]}}))
    },
    "a configuration of very many values": (
        lambda file: file.attrs.__setitem__("model_config", "[" + "[]," * 5_000_000 + "[]]"),
        "more values than a model's description can",
    ),
    "a configuration of long names in one another": (
        lambda file: file.attrs.__setitem__("model_config", json.dumps(nested(20, 400_000))),
        "longer names than any model has",
    ),
    "a configuration that is too long": (
        lambda file: file.attrs.__setitem__("model_config", " " * (33 << 20)),
        "more than 33554432 bytes",
    ),
}


def nested(depth: int, length: int) -> dict[str, Any]:
    inner = [nested(depth - 1, length)] if depth else []
    return {"class_name": "Functional", "config": {"name": f"{depth}" * length, "layers": inner}}


@pytest.mark.parametrize(("change", "message"), KERAS.values(), ids=KERAS.keys())
def test_names_and_lists_that_no_keras_wrote_are_one_line(change: Fill, message: str, listing: Any) -> None:
    path = listing(change)
    with pytest.raises(BridgeError) as caught:
        bridge.read(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert message in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 600


def test_layers_whose_names_would_be_one_in_a_module_are_refused(written: Any) -> None:
    weight = {"kernel": np.ones((2, 3), "f4")}
    with pytest.raises(BridgeError, match=r"a\.b/kernel and a/b/kernel would both be a\.b\.kernel"):
        bridge.read(written({"a.b": weight, "a/b": weight}))
    with pytest.raises(BridgeError, match=r"two weights are both called dense/kernel"):
        bridge.read(written({"dense": weight | {"kernel_1": np.ones((2, 3), "f4")}}))


def test_layers_of_very_long_names_are_refused(written: Any, tmp_path: Path) -> None:
    weight = {"kernel": np.ones((2, 3), "f4")}
    assert list(bridge.read(written({"x" * 19_993: weight}))) == ["x" * 19_993 + "/kernel"]
    with pytest.raises(BridgeError, match=r"names a weight x+\.\.\.x+/kernel, of 20001 characters, more than 20000"):
        bridge.read(written({"x" * 19_994: weight}))
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "q" * 60_000
        group["0"] = np.ones((2, 2), "f4")
    with pytest.raises(BridgeError, match=r"names a weight q+\.\.\.q+/kernel, of 60007 characters, more than 20000"):
        bridge.read(tmp_path / "new.weights.h5")


def test_a_stray_thing_beside_the_weights_does_not_matter(listing: Any) -> None:
    def change(file: h5py.File) -> None:
        file["notes"] = "written by me"
        file["dense/table"] = np.zeros(2, "f4,i4")
        file.attrs["author"] = h5py.Empty("f4")

    assert list(bridge.read(listing(change))) == ["dense/kernel"]


# Files with random damage, through the reader that everybody uses.


def originals() -> dict[str, bytes]:
    """Small legacy files in each version of the format."""
    forms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "old": ({}, {}),
        "new": ({"libver": "latest"}, {}),
        "old, packed": ({}, {"compression": "gzip", "shuffle": True}),
        "new, packed": ({"libver": "latest"}, {"compression": "lzf", "fletcher32": True}),
        "behind a user block": ({"userblock_size": 512}, {}),
    }
    return {form: original(*options) for form, options in forms.items()}


def original(file_options: dict[str, Any], options: dict[str, Any]) -> bytes:
    numbers, content = np.random.default_rng(0), io.BytesIO()
    with h5py.File(content, "w", **file_options) as file:
        file.attrs["layer_names"] = ["conv", "dense"] if file_options else [b"conv", b"dense"]
        file.attrs["keras_version"] = "2.2.4"
        for layer, shape in (("conv", (3, 3, 2, 4)), ("dense", (16, 3))):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode(), f"{layer}/bias:0".encode()]
            for role, size in (("kernel", shape), ("bias", shape[-1:])):
                array = numbers.standard_normal(size).astype("f4")
                group.create_dataset(f"{layer}/{role}:0", data=array, **options)
    return content.getvalue()


def damaged(content: bytes, chance: random.Random) -> bytes:
    data, kind = bytearray(content), chance.randrange(6)
    if kind == 0:
        return bytes(data[: chance.randrange(9, len(data))])
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(data) - 8)
        if kind == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[place] = chance.choice((0, 1, 127, 128, 255))
        elif kind == 3:
            length = chance.choice((2, 4, 8))
            value = chance.choice((0, 1, 2 ** (8 * length) - 1, 2 ** (8 * length - 1), len(data), place))
            data[place : place + length] = (value % (1 << 8 * length)).to_bytes(length, "little")
        elif kind == 4:
            source, length = chance.randrange(len(data)), chance.randrange(1, 64)
            data[place : place + length] = data[source : source + length]
        else:
            data[place] = chance.randrange(256)
    return bytes(data)


def structure(source: bridge.Source) -> dict[str, tuple[tuple[int, ...], str]]:
    return {key: (stored.shape, stored.dtype) for key, stored in source.stored.items()}


def outcome(path: Path, expected: dict[str, Any]) -> str:
    """How reading every array of a damaged file ends; anything but a refusal or arrays is an error of the test."""
    try:
        source = bridge.read(path)
        for key in source:
            assert source[key].shape == source.stored[key].shape
    except BridgeError as error:
        line = checked(error, path)
        return next((word for word in ("crashes", "comes to no end") if word in line), "refused")
    return "read, as it was" if structure(source) == expected else "read, with another structure"


def mutate(tmp_path: Path, count: int, seed: int) -> tuple[Counter[tuple[str, str]], list[float]]:
    path, counts, seconds = tmp_path / "damaged.h5", Counter[tuple[str, str]](), []
    known = {}
    for form, content in originals().items():
        path.write_bytes(content)
        known[form] = content, structure(bridge.read(path))
    for number in range(count):
        chance = random.Random(seed * count + number)
        form = chance.choice(list(known))
        content, expected = known[form]
        path.write_bytes(damaged(content, chance))
        begun = time.monotonic()
        counts[form, outcome(path, expected)] += 1
        seconds.append(time.monotonic() - begun)
    return counts, sorted(seconds)


def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 0.5)
    counts, _ = mutate(tmp_path, 200, seed=1)
    assert counts.total() == 200
    # The newer form has checksums of all that says what is where.
    assert counts["new", "read, with another structure"] == 0
    assert sum(amount for (_, end), amount in counts.items() if end == "refused") > 60


@pytest.mark.slow
def test_twenty_thousand_damaged_files_are_refused_or_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 3.0)
    before = signal.getsignal(signal.SIGCHLD)
    counts, seconds = mutate(tmp_path, 20_000, seed=2)
    print(*sorted(counts.items()), f"seconds: {seconds[10_000]:.4f} half, {seconds[19_000]:.3f} of 95 %", sep="\n")
    assert counts["new", "read, with another structure"] == 0
    assert counts["new, packed", "read, with another structure"] == 0
    assert seconds[19_000] < 1
    assert signal.getsignal(signal.SIGCHLD) == before
