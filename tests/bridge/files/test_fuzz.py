"""Real files of every format changed at random, and random architectures: read exactly, or refused in one line."""

import io
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.hdf5 import isolation, open_file
from bridge.hdf5.tree import datasets, size
from bridge.torch_files import pickled_files, safetensors_files

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIGNATURES = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"FRHP", b"FSHD", b"BTHD", b"\x89HDF", b"PK", b"ustar")
LARGEST_FIXTURE = 200_000
SLOWEST = 15.0  # seconds
Arrays = dict[str, np.ndarray]
Regions = list[tuple[int, int]]


def state() -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(3)
    shapes = {"conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "bn.running_mean": (4,), "fc.weight": (3, 16)}
    return {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}


def net() -> nn.Module:
    module = nn.Module()
    module.conv, module.fc = nn.Conv2d(2, 4, 3), nn.Linear(16, 3)
    return module


def packed(fill: Callable[[h5py.File], object], **options: object) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        fill(file)
    return content.getvalue()


def legacy(compression: Mapping[str, object]) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"fc"], "2.3.1"
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"fc/kernel:0", b"fc/bias:0"]
        for role, array in (("kernel", np.arange(48, dtype="f4").reshape(16, 3)), ("bias", np.ones(3, "f4"))):
            group.create_dataset(f"fc/{role}:0", data=array, **compression)

    return fill


def originals(folder: Path) -> dict[str, Path]:
    """Small real files of every format: written by every Keras, by PyTorch, by safetensors and by us."""
    found = {path.name: path for path in sorted(FIXTURES.iterdir()) if path.suffix in (".h5", ".keras")}
    found = {name: path for name, path in found.items() if path.stat().st_size < LARGEST_FIXTURE}
    contents = {
        "packed.h5": packed(legacy({"compression": "gzip", "shuffle": True, "fletcher32": True})),
        "latest.h5": packed(legacy({}), libver="latest"),
        "user block.h5": packed(legacy({}), userblock_size=512),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    torch.save(state(), folder / "zip.pt")
    torch.save(state(), folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state(), folder / "theirs.safetensors")
    bridge.save(net(), folder / "ours.h5")
    for name in ("ours.safetensors", "ours.pt"):
        bridge.convert(folder / "ours.h5", folder / name)
    like = FIXTURES / "keras3_k380_images.keras"
    bridge.convert(like, folder / "ours.keras", like=like)
    bridge.convert(like, folder / "ours.weights.h5", like=like)
    return found | {path.name: path for path in sorted(folder.iterdir())}


def numbers_in(path: Path) -> Regions:
    """Where numbers lie that no checksum guards: (start, end)."""
    content = path.read_bytes()
    if content.startswith(b"PK") or b"torch-convae sha256" in content[-100:]:
        return []
    if path.suffix == ".h5":
        file = open_file(path)
        return [(each.offset, size(each)) for each in datasets(file.root) if each.offset is not None]
    if path.suffix == ".safetensors":
        tensors = safetensors_files.contents(path)
        return [] if tensors.notes else [(each.offset, each.size) for each in tensors.tensors.values()]
    return [(part.start, part.size) for part in pickled_files.saved(path).parts.values()]


def changed(content: bytes, chance: random.Random) -> bytes:
    """The bytes after one accident: flipped bits, others in their place, cut off, spliced, or a wrong structure."""
    data, kind = bytearray(content), chance.randrange(8)
    place = chance.randrange(len(data))
    if kind == 0:
        return bytes(data[: max(1, place)])
    if kind == 1:
        del data[place : place + chance.choice((1, 4, 8, 100))]
    elif kind == 2:
        data[place:place] = chance.randbytes(chance.choice((1, 4, 8, 100)))
    elif kind == 3:
        other, length = chance.randrange(len(data)), chance.choice((4, 8, 64, 512))
        data[place : place + length] = data[other : other + length]
    elif kind == 4:
        place = near_a_signature(content, chance)
        value = chance.choice((0, 1, 0xFF, 1 << 31, 1 << 63, len(data), (1 << 64) - 1))
        data[place : place + 8] = value.to_bytes(8, "little")
    else:
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            place = near_a_signature(content, chance) if kind == 5 else chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
    return bytes(data) or b"\0"


def near_a_signature(content: bytes, chance: random.Random) -> int:
    """A place in the structure, where the file names one."""
    found = content.find(chance.choice(SIGNATURES), chance.randrange(len(content)))
    return min(max(found, 0) + chance.randrange(64), len(content) - 9) if len(content) > 9 else 0


def arrays_of(path: Path) -> Arrays:
    source = bridge.read(path)
    arrays = {key: source[key] for key in source}
    assert all(array.shape == source.shapes[key] for key, array in arrays.items())
    return arrays


def same(one: Arrays, other: Arrays) -> bool:
    """Whether every tensor that both have under one name is the same, bit by bit."""
    return all(
        one[key].shape == other[key].shape and one[key].tobytes() == other[key].tobytes()
        for key in one.keys() & other.keys()
    )


class Fuzzed:
    """A real file, its numbers, and what became of its changed copies."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.content, self.arrays, self.regions = path.read_bytes(), arrays_of(path), numbers_in(path)
        self.copy, self.repaired, self.out = folder / f"changed{path.suffix}", folder / "repaired", folder / "out"
        self.guarded = not self.regions

    def outcome(self, data: bytes, also_convert: bool) -> str:
        """One word for one changed copy; whatever is neither a refusal nor arrays raises."""
        self.copy.write_bytes(data)
        begun = time.monotonic()
        try:
            found = arrays_of(self.copy)
            word = self._judged(data, found)
        except bridge.BridgeError as error:
            word = "refused" if str(error).isprintable() and self.copy.name in str(error) else f"unclear: {error}"
        if time.monotonic() - begun > SLOWEST:
            return "hang"
        return self._converted(word) if also_convert else word

    def _judged(self, data: bytes, found: Arrays) -> str:
        if same(found, self.arrays):
            return "read, unharmed"
        if self.guarded:
            return "wrongly accepted"
        # What would be read if nothing but the numbers themselves had changed.
        repaired = bytearray(self.content)
        for start, length in self.regions:
            part = data[start : start + length]
            repaired[start : start + len(part)] = part
        self.repaired.write_bytes(repaired)
        same_now = same(found, arrays_of(self.repaired))
        return "read, changed numbers" if same_now else "read, changed places"

    def _converted(self, word: str) -> str:
        self.out.mkdir(exist_ok=True)
        made = self.out / "made.safetensors"
        try:
            bridge.convert(self.copy, made)
        except bridge.BridgeError:
            return word if not list(self.out.iterdir()) else "partial output"
        left = [path.name for path in self.out.iterdir()]
        arrays_of(made)
        made.unlink()
        return word if left == [made.name] else "partial output"


def fuzzed(folder: Path, count: int, seed: int, step: int = 1) -> Counter[str]:
    """How so many changed copies end, every `step`-th file taken in turn."""
    files = [Fuzzed(path, folder) for path in list(originals(folder).values())[::step]]
    counts: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        file = files[number % len(files)]
        data = changed(file.content, chance)
        try:
            word = file.outcome(data, also_convert=number % 10 == 0)
        except BaseException:
            (folder / f"culprit_{number}").write_bytes(data)
            raise
        counts[word] += 1
        if word not in ("refused", "read, unharmed", "read, changed numbers", "read, changed places"):
            (folder / f"culprit_{number}_{word.replace(' ', '_')}{file.copy.suffix}").write_bytes(data)
    return counts


FINE = {"refused", "read, unharmed", "read, changed numbers", "read, changed places"}


def test_a_real_file_changed_at_random_is_refused_or_read_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 1.0)
    counts = fuzzed(tmp_path, 150, seed=1, step=4)
    assert counts.keys() <= FINE, counts
    assert counts["refused"] > 75


@pytest.mark.slow
def test_twenty_thousand_changed_files_are_refused_or_read_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 3.0)
    counts = fuzzed(tmp_path, 20_000, seed=time.time_ns())  # never the same ones again
    print(*sorted(counts.items()), sep="\n")
    assert counts.keys() <= FINE, counts


# Random architectures: out and back bit by bit, and one flipped bit anywhere is found.

NAMES = st.text("abcXYZ019_-é深 ", min_size=1, max_size=12).filter(lambda name: name.strip() == name)
LAYERS = st.one_of(
    st.builds(nn.Linear, st.integers(1, 5), st.integers(1, 5), bias=st.booleans()),
    st.builds(nn.Conv2d, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), bias=st.booleans()),
    st.builds(nn.Conv1d, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    # From two channels on: a kernel of one, in a file that names no classes, is one of a depthwise convolution, too.
    st.builds(nn.ConvTranspose2d, st.integers(2, 4), st.integers(1, 4), st.integers(1, 3)),
    st.builds(nn.BatchNorm2d, st.integers(1, 5), eps=st.just(1e-3)),
    st.builds(nn.Embedding, st.integers(1, 5), st.integers(1, 5)),
)
ARCHITECTURES = st.dictionaries(NAMES, LAYERS, min_size=1, max_size=4)


def twin(layers: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The same layers with other numbers."""
    made = {}
    for name, layer in layers.items():
        made[name] = type(layer).__new__(type(layer))
        made[name].__dict__ = {key: dict(v) if isinstance(v, dict) else v for key, v in layer.__dict__.items()}
        made[name].__dict__["_parameters"] = {
            key: None if value is None else nn.Parameter(torch.zeros_like(value))
            for key, value in layer._parameters.items()
        }
    return nn.ModuleDict(made)


def written(module: nn.Module, folder: Path, flatten: Mapping[str, None]) -> Iterator[Path]:
    yield bridge.save(module, folder / "w.h5", flatten=flatten)
    for name in ("w.safetensors", "w.pt"):
        bridge.convert(folder / "w.h5", folder / name, flatten=flatten)
        yield folder / name


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=ARCHITECTURES, where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(layers={"up": nn.ConvTranspose2d(2, 2, 1), "fc": nn.Linear(4, 1)}, where=0.0, bit=0)
def test_a_random_architecture_comes_back_and_one_flipped_bit_is_found(
    layers: dict[str, nn.Module], where: float, bit: int, tmp_path: Path
) -> None:
    module = nn.ModuleDict(layers)
    # Whether a Linear that happens to stand behind a convolution takes a map, is said: these layers are not a network.
    flatten = {name: None for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    for path in list(written(module, tmp_path, flatten)):
        back = twin(layers)
        bridge.load(back, path, flatten=flatten)
        for name, tensor in module.named_parameters():
            assert torch.equal(back.get_parameter(name), tensor), (path.name, name)
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(bridge.BridgeError):
            arrays_of(path)


@pytest.mark.parametrize("name", ["ours.h5", "ours.weights.h5", "ours.keras", "ours.pt", "ours.safetensors"])
def test_one_flipped_bit_anywhere_in_a_file_of_ours_is_found(name: str, tmp_path: Path) -> None:
    content = originals(tmp_path)[name].read_bytes()
    chance, path = random.Random(name), tmp_path / "flipped"
    last = [8 * len(content) - 1 - place for place in range(0, 720, 7)]  # the digest's own, where one ends the file
    for place in [*last, *(chance.randrange(8 * len(content)) for _ in range(60))]:
        data = bytearray(content)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(bridge.BridgeError):
            arrays_of(path)


def test_other_programs_open_what_ends_with_a_digest(tmp_path: Path) -> None:
    found = originals(tmp_path)
    assert zipfile.ZipFile(found["ours.keras"]).testzip() is None
    with h5py.File(found["ours.h5"]) as file:
        assert set(file) == {"conv", "fc"}
    assert set(torch.load(found["ours.pt"], weights_only=True)) == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
    mapped = torch.load(found["ours.pt"], weights_only=True, mmap=True)
    assert torch.equal(mapped["fc.bias"], torch.load(found["ours.pt"], weights_only=True)["fc.bias"])


@pytest.mark.parametrize("name", ["ours.h5", "ours.weights.h5", "ours.keras", "ours.pt", "ours.safetensors"])
def test_a_file_of_ours_that_is_cut_within_its_digest_is_refused(name: str, tmp_path: Path) -> None:
    content = originals(tmp_path)[name].read_bytes()
    path = tmp_path / "cut"
    for missing in (1, 2, 40, 65, 66, 80, 82):
        path.write_bytes(content[:-missing])
        with pytest.raises(bridge.BridgeError, match=r"cut is .*Get the file again"):
            arrays_of(path)
    for more in (b"\0", b"\n" * 100):
        path.write_bytes(content + more)
        with pytest.raises(bridge.BridgeError, match=r"cut is .*Get the file again"):
            arrays_of(path)
