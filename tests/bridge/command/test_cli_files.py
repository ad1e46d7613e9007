"""A file that is none of weights, in any way, is one line and exit code 2."""

import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import bridge


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "boom"))


def zipped(member: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, "{}")

    return write


def hdf5(change: Callable[[h5py.File], object] = lambda _: None) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            change(file)

    return write


def of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def bomb(path: Path) -> None:
    torch.save({"a.weight": torch.ones(1), "b": Bomb(path.with_name("trace"))}, path)


RED = "\x1b[31mred\nline"


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (of(b""), "is empty"),
    "random bytes": (of(random.Random(1).randbytes(5000)), "is not a weights file"),
    "text": (of(b"<!DOCTYPE html>\n<title>404</title>"), "is not a weights file"),
    "zeros": (of(bytes(5000)), "is not a weights file"),
    "a folder": (Path.mkdir, "is not a regular file"),
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "the beginning of HDF5": (of(b"\x89HDF\r\n\x1a\n"), "is damaged"),
    "the beginning of a zip": (of(b"PK\x03\x04" + bytes(100)), "damaged"),
    "the beginning of a pickle": (of(b"\x80\x02}q\x00"), "is not a whole file of weights"),
    "a pickle of nothing": (of(pickle.dumps({})), "is not a whole file of weights"),
    "a pickle with code": (bomb, "it holds more than tensors and plain values"),
    "a header of exabytes": (of((2**60).to_bytes(8, "little") + b"{}"), "is not a whole .safetensors file"),
    "a .keras archive": (zipped("config.json"), "it is not a whole .keras file"),
    "another zip": (zipped("notes.txt"), "is not a whole file of weights"),
    "HDF5 of nothing": (hdf5(), "holds no Keras layers"),
    "Keras 0": (hdf5(lambda file: file.attrs.__setitem__("nb_layers", 3)), "lists layer_0 but does not hold it"),
    "Keras 3 of nothing": (hdf5(lambda file: file.create_group("layers/conv2d/vars")), "holds no weights"),
    "HDF5 of images": (hdf5(lambda file: file.__setitem__("images", [1.0])), "its top level is ['images']"),
    "a name like a command": (hdf5(lambda file: file.attrs.__setitem__("layer_names", [RED])), "lists the layer"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_a_file_that_is_none_of_weights_is_one_line_and_code_2(
    make: Callable[[Path], object], message: str, refused: Any, tmp_path: Path
) -> None:
    path = tmp_path / "given.h5"
    make(path)
    for line in (
        refused("inspect", path),
        refused("plan", path, "--into", "torch.nn:ReLU"),
        refused("convert", path, tmp_path / "x.pt"),
    ):
        assert line.startswith(f"bridge: {path}")
        assert message in line
        assert line.isprintable()
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("name", ["gone.h5", "n" * 300, "no/such/folder/x.h5", ""])
def test_a_missing_file_is_one_line_and_code_2(name: str, refused: Any, tmp_path: Path) -> None:
    assert refused("inspect", tmp_path / name if name else name).startswith("bridge: ")


@pytest.mark.parametrize("kind", ["whole.h5", "w.safetensors", "w.pt", "old.pt"])
def test_a_file_cut_off_anywhere_is_one_line_and_code_2(kind: str, file: Path, refused: Any, tmp_path: Path) -> None:
    whole = tmp_path / kind
    if kind == "whole.h5":
        whole.write_bytes(file.read_bytes())
    elif kind == "w.safetensors":
        bridge.convert(file, whole)
    else:
        bridge.convert(file, tmp_path / "c.safetensors")
        torch.save(load_file(tmp_path / "c.safetensors"), whole, _use_new_zipfile_serialization=kind == "w.pt")
    content, cut = whole.read_bytes(), tmp_path / "cut"
    step = max(1, len(content) // 24)
    for length in [*range(1, len(content) - 1, step), len(content) - 1]:
        cut.write_bytes(content[:length])
        assert str(cut) in refused("convert", cut, tmp_path / "x.pt"), length
    assert not (tmp_path / "x.pt").exists()


def test_a_file_with_any_broken_configuration_gives_no_traceback(keras: Any, saved: Any, chain: Any) -> None:
    """Every value of the architecture replaced in turn, by values no Keras writes: a plan or one clear line."""
    layers = keras.layers
    x = inputs = layers.Input((4, 4, 1))
    x = layers.UpSampling2D()(layers.MaxPooling2D()(layers.Conv2D(2, 3, padding="same", name="conv")(x)))
    x = layers.Cropping2D(1)(layers.ZeroPadding2D(1)(layers.Conv2DTranspose(2, 1, name="up")(x)))
    path = saved(keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x))))
    with h5py.File(path) as opened:
        config = json.loads(opened.attrs["model_config"])
    module = chain(("conv", nn.Conv2d(1, 2, 3)), ("up", nn.ConvTranspose2d(2, 2, 1)), ("fc", nn.Linear(32, 2)))
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            places.append((value, key))
            collect(inner)

    collect(config)
    refusals: list[str] = []
    for count, (owner, key) in enumerate(places):
        before = owner[key]
        owner[key] = (None, "x", -3, [], {}, [[1]], 0, 1e308, ["a", 0, 0])[count % 9]
        source = bridge.read(path)
        try:
            broken = bridge.Source(source.stored, source.format, path=path, architecture=json.loads(json.dumps(config)))
            bridge.match(broken, module)
        except bridge.BridgeError as error:
            refusals.append(str(error))
        owner[key] = before
    assert len(places) > 150
    assert refusals
    assert all("\n" not in refusal for refusal in refusals)
