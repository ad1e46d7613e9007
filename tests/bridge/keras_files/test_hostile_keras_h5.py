"""Names, lists and configurations that no Keras wrote are one line; a stray thing beside them does not matter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from refusals import Fill

import bridge
from bridge import BridgeError

RED = "red\x1b[31m\nlayer"


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
