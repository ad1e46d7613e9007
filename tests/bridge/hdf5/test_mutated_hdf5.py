"""Damaged HDF5 files are refused or read right, and nothing else."""

import io
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from refusals import checked

import bridge
from bridge import BridgeError
from bridge.hdf5 import isolation


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
