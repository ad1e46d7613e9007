"""Weights in several files, in a folder or in a stream are the weights of one file."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models_of_every_class import (
    MODELS,
    assert_holds,
    held,
    read,
    sequential,
)

import bridge
from bridge.hdf5 import reading
from bridge.keras_files import keras_v3


def test_a_layer_may_be_spread_over_shards(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path]
) -> None:
    layers = keras.layers
    inner = [layers.Input((50,)), layers.Dense(40, name="a"), layers.Dense(45, name="b"), layers.Dense(30, name="c")]
    model = randomised(keras.Sequential(inner))
    path = save(model, "weights.json", max_shard_size=8200 / 1024**3)
    shards = sorted(each.name for each in path.parent.glob("*.h5"))
    listed = json.loads(path.read_text())["weight_map"]
    assert len(shards) > 2
    assert any(isinstance(each, list) for each in listed.values()), "no layer is in several shards"
    assert_holds(read(path), held(model))
    assert list(read(path)) == list(held(model))

    (path.parent / shards[1]).rename(path.parent / "gone")
    with pytest.raises(bridge.BridgeError, match=rf"lists {shards[1]}, which is not beside it"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../model_00000.weights.h5", "/etc/passwd", "sub/x.h5", "..", "", "a\\b", "C:x", None, 3, ["x"], "\0"]
)
def test_a_shard_that_is_not_beside_the_list_is_refused(name: Any, keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense/vars"] = name if isinstance(name, str) else [name]
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match="which is not one beside it"):
        read(path)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"weight_map": {}}', '{"weight_map": []}', "{", "\xff"])
def test_a_list_of_shards_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.weights.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(bridge.BridgeError, match=r"lists no weights|not readable JSON|is not a weights file"):
        read(path)


def test_a_list_of_shards_must_agree_with_them(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense_7/vars"] = "model_00000.weights.h5"
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match=r"dense_7/vars in model_00000.weights.h5, which does not hold it"):
        read(path)


def test_a_layer_in_two_shards_at_once_is_refused(keras: Any, save: Callable[..., Path]) -> None:
    path = save(sequential(keras), "weights.json")
    first = path.parent / "model_00000.weights.h5"
    shutil.copy(first, path.parent / "model_00001.weights.h5")
    listed = json.loads(path.read_text())
    listed["weight_map"]["/layers/dense/vars"] = ["model_00000.weights.h5", "model_00001.weights.h5"]
    path.write_text(json.dumps(listed))
    with pytest.raises(bridge.BridgeError, match="is in several files"):
        read(path)


@pytest.fixture
def packed_shards(tmp_path: Path) -> Path:
    """Three files of 4 MiB of zeros each, packed to a few KiB."""
    weight_map = {}
    for number, layer in enumerate(("dense", "dense_1", "dense_2")):
        name = f"m_{number:05d}.weights.h5"
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset(f"layers/{layer}/vars/0", data=np.zeros((1024, 1024), "f4"), compression="gzip")
        weight_map[f"/layers/{layer}/vars"] = name
    (tmp_path / "m.weights.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path / "m.weights.json"


def test_what_shards_declare_is_limited_together(packed_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(bridge.read(packed_shards, isolated=False, largest=12 << 20)) == 3
    with pytest.raises(bridge.BridgeError, match=r"m\.weights\.json declares 12582912 bytes.* the limit of 12582911"):
        bridge.read(packed_shards, isolated=False, largest=(12 << 20) - 1)
    monkeypatch.setattr(reading, "ALWAYS", 5 << 20)
    with pytest.raises(bridge.BridgeError, match=r"m\.weights\.json declares 12582912 bytes of weights in [0-9]+ b"):
        bridge.read(packed_shards, isolated=False)


def test_an_unzipped_folder_holds_the_same(
    keras: Any, randomised: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    model = randomised(MODELS["plain"](keras))
    folder = tmp_path / "folder"
    with zipfile.ZipFile(save(model, "keras")) as archive:
        archive.extractall(folder)
    source = read(folder)
    assert_holds(source, held(model))
    assert source.format == "keras-v3-archive"
    assert source.keras_version == keras.__version__
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        (folder / name).rename(tmp_path / "away")
        with pytest.raises(bridge.BridgeError, match=f"holds no {name}"):
            keras_v3.read_folder(folder)
        (tmp_path / "away").rename(folder / name)
