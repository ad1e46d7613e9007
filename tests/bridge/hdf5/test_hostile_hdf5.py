"""No HDF5 file, however it was made, does more than be refused: one line, little memory, little time."""

import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from refusals import Fill, refusal

from bridge.hdf5 import open_file

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


# Files that are not whole.


# What the reader of Keras's files makes of names and lists that were made up.


# Files with random damage, through the reader that everybody uses.
