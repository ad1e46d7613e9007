"""What a small HDF5 file can make a reader do is limited: sizes, names, ways and groups without end."""

import os
import re
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from refusals import Fill, checked, refusal

import bridge
from bridge import BridgeError
from bridge.hdf5 import open_file


def ways(file: h5py.File) -> None:
    group = file.create_group("x")
    for _ in range(40):  # 2 ** 40 ways through
        inner = group.create_group("a")
        group["b"], group = inner, inner


def slash(file: h5py.File) -> None:
    file["sXx"] = np.ones(2, "f4")


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
