"""A .keras archive is read where it lies, and refused where it is not what an honest writer leaves."""

import io
import json
import os
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import bridge
from bridge.keras_files import archive, json_data, keras_v3

FIXTURES = Path(__file__).parents[1] / "fixtures"
GENUINE = FIXTURES / "keras3_k380_shared.keras"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
BOMB = 5 << 20

Entries = list[tuple[str, bytes]]


def entries() -> Entries:
    """What a genuine archive holds, in its order."""
    with zipfile.ZipFile(GENUINE) as given:
        return [(name, given.read(name)) for name in given.namelist()]


def expected() -> dict[str, np.ndarray]:
    with np.load(GENUINE.with_suffix(".npz")) as arrays:
        return dict(arrays)


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Path]:
    """Packs files into model.keras, stored as Keras does unless told otherwise."""

    def pack(files: Entries, compression: int = zipfile.ZIP_STORED, **options: Any) -> Path:
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w", compression) as made:
            for name, data in files:
                with made.open(zipfile.ZipInfo(name) if "/" in name else name, "w", **options) as member:
                    member.write(data)
        return path

    return pack


def read(path: Path, **options: Any) -> bridge.Source:
    return bridge.read(path, isolated=False, **options)


def refused(path: Path, **options: Any) -> str:
    """The message with which a file is refused: one line."""
    with pytest.raises(bridge.BridgeError) as caught:
        keras_v3.read_archive(path, isolated=False, **options)
    text = str(caught.value)
    assert text.isprintable(), text
    assert str(path) in text
    return text


def assert_genuine(source: bridge.Source) -> None:
    wanted = expected()
    assert list(source) == list(wanted)
    assert all(source[key].tobytes() == array.tobytes() for key, array in wanted.items())


def patched(path: Path, change: Callable[[bytearray], Any]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def header(data: bytearray, name: str) -> int:
    """Where the header in front of a member begins."""
    return bytes(data).index(name.encode()) - 30


def listing(data: bytearray, name: str) -> int:
    """Where a member's entry in the directory begins."""
    return bytes(data).rindex(name.encode()) - 46


# What is read


@pytest.mark.parametrize("zip_64", [False, True], ids=["plain", "zip64"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_an_archive_is_read_however_it_was_packed(packed: Callable[..., Path], compression: int, zip_64: bool) -> None:
    source = read(packed(entries(), compression, force_zip64=zip_64))
    assert_genuine(source)
    source[next(iter(source))][...] = 0  # its own copy, or the file would have changed
    assert_genuine(read(source.path))


def test_the_order_of_the_members_and_further_ones_do_not_matter(packed: Callable[..., Path]) -> None:
    assert_genuine(read(packed([("assets/vocabulary.txt", b"a"), *reversed(entries()), ("assets/", b"")])))


@pytest.mark.parametrize(("more", "reason"), [(20_001, "lists 20001 files"), (19_000, "holds no metadata.json")])
def test_an_archive_of_more_files_than_any_model_has_is_refused(more: int, reason: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.keras", "w") as made:
        made.writestr("config.json", "{}")
        for number in range(more - 1):
            made.writestr(str(number), "")
    with pytest.raises(bridge.BridgeError, match=reason):
        bridge.read(tmp_path / "many.keras")


@pytest.mark.parametrize("name", ["model.keras", "model.pt"])
def test_the_members_of_an_archive_are_gone_through_once(
    name: str, packed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = packed(entries()) if name == "model.keras" else tmp_path / name
    if name == "model.pt":
        torch.save({"a.weight": torch.zeros(2)}, path)
    seen: list[Path] = []
    real = archive.members

    def counted(path: Path) -> Any:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(archive, "members", counted)
    assert bridge.read(path)
    assert seen == [path]


def test_an_archive_that_was_written_in_one_go_is_read(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """A place to write to that cannot go back, so that sizes follow the bytes."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as made:
        for name, data in entries():
            made.writestr(name, data)
    path = tmp_path / "model.keras"
    path.write_bytes(pipe.data)
    assert_genuine(read(path))


def test_an_archive_with_wide_numbers_at_its_end_is_read(packed: Callable[..., Path], monkeypatch: Any) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # as if there were more files than 16 bits count
    path = packed(entries())
    assert b"PK\x06\x06" in path.read_bytes()
    assert_genuine(read(path))


def test_nothing_is_left_behind(packed: Callable[..., Path], tmp_path: Path, monkeypatch: Any) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = packed(entries(), zipfile.ZIP_DEFLATED)
    source = read(path)
    assert list(temporary.iterdir()) == []
    assert_genuine(source)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.keras", "temporary"]


def test_reading_copies_no_numbers(packed: Callable[..., Path], tmp_path: Path) -> None:
    inner = tmp_path / "weights.h5"
    numbers = np.random.default_rng(0).standard_normal((1 << 18, 8)).astype("float32")
    with h5py.File(inner, "w") as file:
        file["layers/dense/vars/0"] = numbers
    files = [(CONFIG, b'{"class_name": "Own"}'), (METADATA, b"{}"), (WEIGHTS, inner.read_bytes())]
    path = packed(files)
    spare = -archive.members(path)[WEIGHTS].start % 8
    path = packed([(CONFIG, b'{"class_name": "Own"}' + b" " * spare), *files[1:]])
    tracemalloc.start()
    source = read(path)
    kernel = source["dense/kernel"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20 < kernel.nbytes
    assert kernel.tobytes() == numbers.tobytes()


def test_a_large_member_is_checked_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as made, made.open("large", "w") as member:
        for _ in range(40):
            member.write(bytes(1 << 20))
    found = archive.members(path)["large"]
    tracemalloc.start()
    archive.check(found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


# What is refused


@pytest.mark.parametrize("absent", [CONFIG, METADATA, WEIGHTS])
def test_an_archive_without_a_needed_file_is_refused(absent: str, packed: Callable[..., Path]) -> None:
    path = packed([entry for entry in entries() if entry[0] != absent])
    assert f"holds no {absent}" in refused(path)


def test_pickled_weights_are_refused(packed: Callable[..., Path]) -> None:
    path = packed([entry for entry in entries() if entry[0] != WEIGHTS] + [("model.weights.npz", b"x")])
    assert "holds its weights as pickled arrays" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twice", [CONFIG, METADATA, WEIGHTS])
def test_a_file_that_is_there_twice_is_refused(twice: str, packed: Callable[..., Path]) -> None:
    path = packed([*entries(), (twice, dict(entries())[twice])])
    assert f"it holds {twice} twice" in refused(path)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "a//evil", "..", "C:/evil", "a\\evil", "./evil", "a\nb", "\x1b[31m"],
)
def test_a_name_that_points_elsewhere_is_refused(name: str, packed: Callable[..., Path]) -> None:
    assert "points outside the archive" in refused(packed([*entries(), (name, b"x")]))


@pytest.mark.parametrize("flag", [1, 1 << 6, 1 << 13])
def test_an_encrypted_archive_is_refused(flag: int, packed: Callable[..., Path]) -> None:
    def change(data: bytearray) -> None:
        for place in (header(data, WEIGHTS) + 6, listing(data, WEIGHTS) + 8):
            struct.pack_into("<H", data, place, flag)

    assert "is encrypted (model.weights.h5)" in refused(patched(packed(entries()), change))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(compression: int, packed: Callable[..., Path]) -> None:
    assert f"is compressed by method {compression}" in refused(packed(entries(), compression))


@pytest.mark.parametrize("name", [CONFIG, METADATA, WEIGHTS])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_one_wrong_bit_is_refused(name: str, compression: int, packed: Callable[..., Path]) -> None:
    path = packed(entries(), compression)
    member = archive.members(path)[name]

    def change(data: bytearray) -> None:
        data[member.start + member.stored_size // 2] ^= 16

    text = refused(patched(path, change))
    assert f"the checksum of {name} is wrong" in text or "damaged archive" in text


@pytest.mark.parametrize("place", [14, 18, 22], ids=["checksum", "stored size", "size"])
def test_a_header_that_differs_from_the_directory_is_refused(place: int, packed: Callable[..., Path]) -> None:
    path = packed(entries())

    def change(data: bytearray) -> None:
        data[header(data, WEIGHTS) + place] ^= 1

    assert "the directory and b'model.weights.h5' itself differ" in refused(patched(path, change))


def test_a_name_that_differs_from_the_directory_is_refused(packed: Callable[..., Path]) -> None:
    def change(data: bytearray) -> None:
        data[header(data, CONFIG) + 30] = ord("k")

    assert "the directory and b'config.json' itself differ" in refused(patched(packed(entries()), change))


def test_sizes_that_lie_are_refused(packed: Callable[..., Path]) -> None:
    def larger(data: bytearray) -> None:  # the same lie in both places
        for place in (header(data, CONFIG) + 22, listing(data, CONFIG) + 24):
            struct.pack_into("<L", data, place, 1 << 20)

    stored = refused(patched(packed(entries()), larger))
    assert "config.json is 1048576 bytes in" in stored
    assert "config.json is not of the size it says" in refused(patched(packed(entries(), zipfile.ZIP_DEFLATED), larger))


def test_a_bomb_is_not_unpacked(packed: Callable[..., Path]) -> None:
    files = [(CONFIG, b" " * BOMB + b"{}"), *[entry for entry in entries() if entry[0] != CONFIG]]
    path = packed(files, zipfile.ZIP_DEFLATED)

    def smaller(data: bytearray) -> None:  # it says 100 bytes and unpacks to 5 MiB
        for place in (header(data, CONFIG) + 22, listing(data, CONFIG) + 24):
            struct.pack_into("<L", data, place, 100)

    tracemalloc.start()
    text = refused(patched(path, smaller))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "config.json is not of the size it says" in text
    assert peak < BOMB // 2


def test_more_than_the_limit_is_refused(packed: Callable[..., Path]) -> None:
    files = [*entries(), ("assets/zeros", bytes(BOMB))]
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = packed(files, compression)
        assert f"more than the limit of {BOMB} bytes" in refused(path, largest=BOMB)
        assert_genuine(read(path, largest=2 * BOMB))


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9, 0.999])
def test_an_archive_that_breaks_off_is_refused(keep: float, packed: Callable[..., Path]) -> None:
    path = packed(entries())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "damaged archive" in refused(path)


@pytest.mark.parametrize("change", [lambda data: data + b"more", lambda data: b"more" + data], ids=["behind", "before"])
def test_an_archive_with_something_around_it_is_refused(change: Any, packed: Callable[..., Path]) -> None:
    path = packed(entries())
    path.write_bytes(change(path.read_bytes()))
    assert "damaged archive" in refused(path)


def test_members_that_lie_over_one_another_are_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("a", b"x" * 100)
    whole = bytearray(data.getvalue())
    entry = bytes(whole[whole.index(b"PK\x01\x02") : whole.index(b"PK\x05\x06")])
    inner = 30 + 1 + 20  # a second header within the bytes of the first member
    whole[inner : inner + 31] = whole[:31]
    struct.pack_into("<LL", whole, inner + 18, 10, 10)
    start = whole.index(b"PK\x01\x02")
    second = bytearray(entry)
    struct.pack_into("<LL", second, 20, 10, 10)
    struct.pack_into("<L", second, 42, inner)
    second[46:47] = b"b"
    whole[inner + 30 : inner + 31] = b"b"
    made_up = whole[:start] + entry + second
    made_up += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), start, 0)
    path = tmp_path / "model.keras"
    path.write_bytes(made_up)
    assert "reaches over another part" in refused(path)


def test_a_directory_of_millions_is_not_read(packed: Callable[..., Path]) -> None:
    def change(data: bytearray) -> None:
        """Zip64's end says that there are 2**40 files."""
        end = bytes(data).rindex(b"PK\x05\x06")
        size, start = struct.unpack_from("<2L", data, end + 12)
        wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, size, start)
        data[end:end] = wide + struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)

    assert "it lists 1099511627776 files" in refused(patched(packed(entries()), change))


@pytest.mark.parametrize("place", [1 << 33, 1 << 63, (1 << 64) - 1])
def test_a_member_far_behind_the_end_is_refused(place: int, packed: Callable[..., Path]) -> None:
    path = packed([*entries(), ("last", b"x")])

    def change(data: bytearray) -> None:
        entry = listing(data, "last")
        struct.pack_into("<H", data, entry + 30, 12)
        struct.pack_into("<L", data, entry + 42, 0xFFFFFFFF)
        data[entry + 50 : entry + 50] = struct.pack("<2HQ", 1, 8, place)
        end = bytes(data).rindex(b"PK\x05\x06")
        struct.pack_into("<L", data, end + 12, struct.unpack_from("<L", data, end + 12)[0] + 12)

    assert "b'last' is not where the directory says" in refused(patched(path, change))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not readable JSON"),
        (b"\xff\xfe{}", "not readable JSON"),
        (b"[" * 500_000, "nested too deeply"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "nested too deeply"),
        (b"[" + b"1," * 4_000_001 + b"1]", "more values than"),
        (b"[]", "describes no model"),
        (b"1" * 10_000, "not readable JSON"),
        (b'{"class_name": "A", "config": {"layers": [], "layers": []}}', "not readable JSON (it names layers twice)"),
    ],
    ids=["broken", "no text", "deep", "deep and whole", "many values", "a list", "a long number", "a name twice"],
)
def test_a_description_that_is_none_is_refused(text: bytes, reason: str, packed: Callable[..., Path]) -> None:
    files = [(name, text if name == CONFIG else data) for name, data in entries()]
    message = refused(packed(files))
    assert reason in message
    assert "config.json" in message


def test_a_description_that_is_too_long_is_refused(packed: Callable[..., Path]) -> None:
    files = [(name, bytes(json_data.LARGEST + 1) if name == CONFIG else data) for name, data in entries()]
    text = refused(packed(files, zipfile.ZIP_DEFLATED))
    assert f"config.json takes {json_data.LARGEST + 1} bytes, more than {json_data.LARGEST}" in text


def test_a_configuration_names_classes_and_runs_none(packed: Callable[..., Path], tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    config = json.loads(dict(entries())[CONFIG])
    config["config"]["layers"][1] |= {"module": "os", "class_name": "system", "registered_name": "system"}
    config["config"]["layers"][1]["config"]["activation"] = f"touch {proof}"
    files = [(name, json.dumps(config).encode() if name == CONFIG else data) for name, data in entries()]
    source = read(packed(files))
    assert source.kinds["both"] == "Dense"
    assert not os.path.lexists(proof)


def test_weights_that_are_no_hdf5_are_refused(packed: Callable[..., Path]) -> None:
    files = [(name, b"no HDF5 at all" if name == WEIGHTS else data) for name, data in entries()]
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused(packed(files, compression))


def test_any_one_changed_byte_is_refused_or_changes_nothing(packed: Callable[..., Path]) -> None:
    numbers = np.random.default_rng(7)
    path = packed(entries(), zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    ends = archive.members(path)[WEIGHTS]
    inside = numbers.integers(0, len(whole), 60).tolist()
    around = [*range(ends.start - 60, ends.start + 4), *range(ends.start + ends.stored_size, len(whole), 3)]
    outcomes = set()
    for place in [*inside, *around]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(numbers.integers(8))
        path.write_bytes(changed)
        try:
            assert_genuine(read(path))
            outcomes.add("read")
        except bridge.BridgeError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
