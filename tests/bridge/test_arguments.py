"""What is no module, no path, no number or no name is refused in one line before anything is read or written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import bridge
from bridge.__main__ import main

MODULE = nn.Sequential()
MODULE.add_module("dense", nn.Linear(3, 2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return bridge.save(MODULE, tmp_path / "dense.h5")


@pytest.mark.parametrize(
    "given", [MODULE.state_dict(), None, "dense.h5", nn.Linear], ids=lambda given: type(given).__name__
)
def test_what_is_no_module_is_named(file: Path, tmp_path: Path, given: Any) -> None:
    for call in (
        lambda: bridge.load(given, file),
        lambda: bridge.match(bridge.read(file), given),
        lambda: bridge.verify(given, file),
        lambda: bridge.save(given, tmp_path / "other.h5"),
    ):
        with pytest.raises(bridge.BridgeError, match=r"^A module .* is wanted, not|^A module is wanted, not the class"):
            call()
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize("given", [None, 3, MODULE, b"dense.h5"], ids=lambda given: type(given).__name__)
def test_what_is_no_path_is_named(file: Path, given: Any) -> None:
    for call in (
        lambda: bridge.read(given),
        lambda: bridge.convert(given, "out.safetensors"),
        lambda: bridge.convert(file, given),
        lambda: bridge.save(MODULE, given),
    ):
        with pytest.raises(bridge.BridgeError, match=r"A file is named by a text or a pathlib.Path, not by"):
            call()


def test_match_takes_what_read_gives_and_weights_are_named_by_texts(file: Path) -> None:
    with pytest.raises(bridge.BridgeError, match=r"read\(path\)"):
        bridge.match(str(file), MODULE)  # type: ignore[arg-type]
    with pytest.raises(bridge.BridgeError, match="named by text, as layer/role, not by 3"):
        bridge.load(MODULE, {3: np.zeros(2, np.float32)})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["tolerance", "rtol", "atol", "epsilon"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1, "1", True], ids=repr)
def test_a_tolerance_is_a_finite_number(file: Path, name: str, value: Any) -> None:
    with pytest.raises(bridge.BridgeError, match=f"^{name} is .* but should be a number"):
        bridge.verify(MODULE, file, **{name: value})


def test_a_tolerance_of_zero_is_one(file: Path) -> None:
    assert not [proof for proof in bridge.verify(MODULE, file, tolerance=0.0).layers if proof.verdict == "unknown"]


@pytest.mark.parametrize(
    "option",
    [
        {"largest": "4G"},
        {"largest": True},
        {"config": "{}"},
        {"flatten": "dense"},
        {"flatten": {"dense": 3}},
    ],
    ids=str,
)
def test_an_option_of_reading_has_its_form(file: Path, option: dict[str, Any]) -> None:
    with pytest.raises(bridge.BridgeError, match=f"{next(iter(option))} (is|says)"):
        bridge.read(file, **option)


@pytest.mark.parametrize(
    "option", [{"skip": 3}, {"skip": [3]}, {"rename": 3}, {"rename": {3: "dense"}}, {"rename": {"dense": 3}}], ids=str
)
def test_names_are_texts(file: Path, option: dict[str, Any]) -> None:
    with pytest.raises(bridge.BridgeError, match=f"^{next(iter(option))} is"):
        bridge.load(MODULE, file, **option)


def test_a_layer_has_one_map_however_often_it_is_given(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", str(file), "--into", "torch.nn:Linear(3, 2)", "--flatten", "dense=1x1x3"]
    assert main([*command, "--flatten", "dense=none"]) == 2
    assert "--flatten says two things of dense: (1, 1, 3) and None" in capsys.readouterr().err
