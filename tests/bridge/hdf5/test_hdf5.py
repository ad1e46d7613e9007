"""An HDF5 file becomes a tree of plain values, its numbers come out bit for bit, and no process is left behind."""

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_values import drawn, held

from bridge import BridgeError
from bridge.hdf5 import Dataset, Group, listed, open_file

NUMBERS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", "<i2", ">i4", "<i8", ">u2", "<u4", ">u8")
PACKED: dict[str, dict[str, Any]] = {
    "as it is": {},
    "chunks": {"chunks": (2, 3)},
    "gzip": {"chunks": (2, 3), "compression": "gzip"},
    "shuffled gzip": {"chunks": (4, 2), "compression": "gzip", "shuffle": True},
    "gzip with checksums": {"chunks": (2, 3), "compression": "gzip", "fletcher32": True, "shuffle": True},
    "lzf": {"chunks": (2, 3), "compression": "lzf"},
    "checksums": {"chunks": (2, 3), "fletcher32": True},
    "larger chunks": {"chunks": (16, 16), "maxshape": (None, None), "compression": "gzip"},
}


def test_a_file_is_a_tree_of_plain_values(made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file.attrs["text"], file.attrs["bytes"] = "späße", np.bytes_("fixed")
        file.attrs["names"], file.attrs["other names"] = ["a", "bc"], [b"a", b"bc"]
        file.attrs["whole"], file.attrs["real"], file.attrs["reals"] = 3, 0.5, [1.0, 2.5]
        file.attrs["no names"] = []
        file.attrs["table"], file.attrs["empty"] = np.zeros((2, 2)), h5py.Empty("f4")
        file.attrs["truth"], file.attrs["complex"] = True, 1j
        file["outer/inner/kernel"] = np.zeros((2, 3), ">f4")
        file["outer/inner/kernel"].attrs["dtype"] = "float32"
        file["scalar"] = np.float64(2)

    root = open_file(made(fill), isolated=isolated).root
    assert dict(root.attributes) == {
        **{"text": "späße", "bytes": "fixed", "names": ["a", "bc"], "other names": ["a", "bc"]},
        **{"whole": 3, "real": 0.5, "reals": [1.0, 2.5], "no names": []},
        **{"table": None, "empty": None, "truth": None, "complex": None},
    }
    assert {type(root.attributes[name]) for name in ("whole", "real")} == {int, float}
    kernel = root.groups["outer"].groups["inner"].datasets["kernel"]
    assert (kernel.path, kernel.shape, kernel.dtype) == ("/outer/inner/kernel", (2, 3), ">f4")
    assert kernel.attributes == {"dtype": "float32"}
    assert root.datasets["scalar"].shape == ()
    assert root.refused == {}


def test_both_ways_of_reading_see_the_same(made: Any) -> None:
    for options in ({}, {"libver": "latest"}, {"userblock_size": 1024}):
        path = made(lambda file: [file.create_dataset(f"{n}/{n}", data=drawn("<f4")) for n in "abc"], **options)
        assert open_file(path).root == open_file(path, isolated=False).root


def test_tied_weights_have_every_name_and_one_address(made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["a/kernel"] = drawn("<f4")
        file["b/tied"] = file["a/kernel"]
        file["c"] = file["a"]
        file["d"] = drawn("<f4")

    file = open_file(made(fill), isolated=isolated)
    found = [file.child(file.root, name) for name in ("a/kernel", "b/tied", "c/kernel", "d")]
    addresses = [each.address for each in found if isinstance(each, Dataset)]
    assert len(addresses) == 4
    assert len(set(addresses[:3])) == 1
    assert addresses[3] != addresses[0]
    np.testing.assert_array_equal(held(file, "b/tied"), drawn("<f4"))


@pytest.mark.parametrize("options", PACKED.values(), ids=PACKED.keys())
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_numbers_of_every_kind_are_the_same_bits_however_they_are_packed(
    options: dict[str, Any], libver: str, made: Any, isolated: bool
) -> None:
    def fill(file: h5py.File) -> None:
        for dtype in NUMBERS:
            file.create_dataset(dtype, data=drawn(dtype), **options)

    file = open_file(made(fill, libver=libver), isolated=isolated)
    for dtype in NUMBERS if isolated and not options else NUMBERS[::3]:
        array = held(file, dtype)
        assert array.dtype == np.dtype(dtype).newbyteorder("=")
        assert array.dtype.isnative
        assert array.flags.writeable
        assert array.tobytes() == drawn(dtype).astype(array.dtype).tobytes()


def test_bfloat16_is_widened_exactly_in_both_of_its_spellings(made: Any, isolated: bool) -> None:
    bits = drawn("<u2")
    own = h5py.h5t.IEEE_F32LE.copy()
    own.set_fields(15, 7, 8, 0, 7)
    own.set_precision(16)
    own.set_size(2)

    def fill(file: h5py.File) -> None:
        file["opaque"] = bits.view("V2")
        file.create_dataset("packed", data=bits.view("V2"), compression="gzip")
        space = h5py.h5s.create_simple(bits.shape)
        h5py.h5d.create(file.id, b"float", own, space).write(h5py.h5s.ALL, h5py.h5s.ALL, bits, mtype=own)

    file = open_file(made(fill), isolated=isolated)
    for name in ("opaque", "packed", "float"):
        dataset = file.root.datasets[name]
        assert (dataset.dtype, file.stored(dataset).dtype) == ("bfloat16", "bfloat16")
        assert held(file, name).tobytes() == (bits.astype(np.uint32) << 16).tobytes()


def test_floats_of_unusual_widths_are_refused_and_not_misread(made: Any, isolated: bool) -> None:
    own = h5py.h5t.IEEE_F32LE.copy()
    own.set_fields(31, 22, 9, 0, 22)

    def fill(file: h5py.File) -> None:
        h5py.h5d.create(file.id, b"odd", own, h5py.h5s.create_simple((3,))).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(3, "f8")
        )
        whole = h5py.h5t.STD_I32LE.copy()
        whole.set_precision(20)
        h5py.h5d.create(file.id, b"narrow", whole, h5py.h5s.create_simple((3,))).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(3, "i4")
        )

    refused = open_file(made(fill), isolated=isolated).root.refused
    assert refused == dict.fromkeys(
        ("odd", "narrow"), "holds numbers of 4 bytes that PyTorch does not have, not numbers"
    )


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_arrays_of_few_numbers_have_their_shape(shape: tuple[int, ...], made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = np.ones(shape, "f4")
        if shape and 0 not in shape:
            file.create_dataset("packed", data=np.ones(shape, "f4"), compression="gzip")
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        compact = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), plan)
        if 0 not in shape:
            compact.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(shape, "f4"))

    file = open_file(made(fill), isolated=isolated)
    for name in file.root.datasets:
        np.testing.assert_array_equal(held(file, name), np.ones(shape, "f4"), strict=True)


@pytest.mark.parametrize("start", [0, 1, 37, 512, 4099])
def test_a_file_inside_another_is_read_where_it_lies(start: int, made: Any, isolated: bool, tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["a/plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f8"), compression="gzip")

    content = made(fill).read_bytes()
    outer = tmp_path / "outer.zip"
    outer.write_bytes(bytes(start) + content + b"what follows")
    file = open_file(outer, isolated=isolated, start=start, length=len(content))
    np.testing.assert_array_equal(held(file, "a/plain"), drawn("<f4"))
    np.testing.assert_array_equal(held(file, "packed"), drawn("<f8"))
    for wrong in ({"start": start, "length": len(content) + 100}, {"start": -1}, {"start": 10**6}):
        with pytest.raises(BridgeError, match=r"outer\.zip breaks off"):
            open_file(outer, isolated=isolated, **wrong)


def test_a_user_block_in_front_does_not_matter(made: Any, isolated: bool) -> None:
    path = made(lambda file: file.create_dataset("g/x", data=drawn("<f4")), userblock_size=512)
    with path.open("r+b") as raw:
        raw.write(b"somebody's own words")
    np.testing.assert_array_equal(held(open_file(path, isolated=isolated), "g/x"), drawn("<f4"))


def test_a_temporary_file_stands_for_what_was_unpacked(made: Any, isolated: bool) -> None:
    content = made(lambda file: file.create_dataset("x", data=drawn("<f4"))).read_bytes()
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (reading closes it)
    unpacked.write(content)
    unpacked.flush()
    file = open_file("somewhere.keras", isolated=isolated, unpacked=unpacked)
    assert unpacked.closed
    np.testing.assert_array_equal(held(file, "x"), drawn("<f4"))


def test_what_is_read_may_be_written_to_and_the_file_stays(made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f4"), compression="gzip")

    path = made(fill)
    before = path.read_bytes()
    file = open_file(path, isolated=isolated)
    for name in ("plain", "packed"):
        array = held(file, name)
        array += 1
        np.testing.assert_array_equal(array, drawn("<f4") + 1)
    assert path.read_bytes() == before


def test_arrays_outlive_the_file_they_came_from(made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f4"), compression="gzip")

    path = made(fill)
    arrays = [held(open_file(path, isolated=isolated), name) for name in ("plain", "packed")]
    path.unlink()
    for array in arrays:
        np.testing.assert_array_equal(array, drawn("<f4"))


def test_open_files_are_closed_with_what_refers_to_them(made: Any) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    held(open_file(path), "x")
    before = os.open(path, os.O_RDONLY)  # the lowest number that is free
    os.close(before)
    for _ in range(20):
        held(open_file(path), "x")
    after = os.open(path, os.O_RDONLY)
    os.close(after)
    assert after == before


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda path: os.truncate(path, path.stat().st_size - 100), "changed meanwhile"),
    "emptied": (lambda path: os.truncate(path, 0), "changed meanwhile"),
    "another in its place": (lambda path: overwrite(path, np.zeros((6, 6), "<f4")), "changed meanwhile"),
    "nothing in its place": (lambda path: overwrite(path, None), "changed meanwhile"),
}


def overwrite(path: Path, array: np.ndarray | None) -> None:
    """Another file in the same bytes on the disk, not a new one of that name."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        if array is not None:
            file["plain"] = array
            file.create_dataset("packed", data=array, compression="gzip")
    with path.open("r+b") as raw:
        raw.write(content.getvalue())
        raw.truncate()


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("name", ["plain", "packed"])
def test_a_file_that_changes_under_the_reader_is_one_clear_line(
    name: str, change: Callable[[Path], object], message: str, made: Any, isolated: bool
) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f4"), compression="gzip")

    path = made(fill)
    file = open_file(path, isolated=isolated)
    change(path)
    with pytest.raises(BridgeError, match=message) as caught:
        held(file, name)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "packed"])
def test_new_numbers_in_the_same_places_are_read_as_they_are_now(name: str, made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f4"), chunks=(7, 5))

    path = made(fill)
    file = open_file(path, isolated=isolated)
    with h5py.File(path, "r+") as again:
        again[name][...] = 7
    np.testing.assert_array_equal(held(file, name), np.full((7, 5), 7, "f4"))


def test_a_file_that_is_replaced_stays_readable(made: Any, isolated: bool) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn("<f4"), compression="gzip")

    path = made(fill)
    file = open_file(path, isolated=isolated)
    made(lambda file: file.create_group("other"), name="other.h5").replace(path)
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(held(file, name), drawn("<f4"))


def test_children_are_found_by_names_one_after_the_other(made: Any) -> None:
    def fill(file: h5py.File) -> None:
        file["a/b/c"] = drawn("<f4")
        file["a/text"] = "text"

    file = open_file(made(fill))
    assert isinstance(file.child(file.root, "a/b"), Group)
    assert isinstance(file.child(file.root.groups["a"], "b/c"), Dataset)
    assert file.child(file.root, "a/x") is None
    assert file.child(file.root, "a/b/c/d") is None
    for name in ("/a", "a/../a", "a//b", ".", "", "a/"):
        with pytest.raises(BridgeError, match=r"made\.h5 names a weight .* outside its layer"):
            file.child(file.root, name)
    with pytest.raises(BridgeError, match=r"made\.h5: a/text holds text, not numbers"):
        file.child(file.root, "a/text")


def test_lists_that_were_split_are_put_together(made: Any) -> None:
    def fill(file: h5py.File) -> None:
        file.attrs["names0"], file.attrs["names1"], file.attrs["one"] = [b"a", b"b"], [b"c"], "x"
        file.attrs["none"] = []

    root = open_file(made(fill)).root
    assert listed(root, "names") == ["a", "b", "c"]
    assert listed(root, "one") == ["x"]
    assert listed(root, "none") == []
    assert listed(root, "absent") is None
