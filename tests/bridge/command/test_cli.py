"""The command line: what inspect and plan print, which modules --into takes, and one clear line for a wrong call."""

import json
from pathlib import Path
from typing import Any

import pytest

import bridge

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def into(tmp_path: Path) -> str:
    """A module of the user's, importable from the working folder of the command."""
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    net = nn.Module()\n"
        "    net.conv, net.bn, net.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.Linear(16, 2)\n"
        "    net.more = nn.Linear(1, 1)\n"
        "    return net\n"
        "def large():\n"
        "    net = nn.Module()\n"
        "    net.conv = nn.Conv2d(1, 5, 3)\n"
        "    return net\n"
        "def needs(classes): ...\n"
        "def number(): return 3\n"
        "def raises(): raise RuntimeError('two\\nlines')\n"
        "ready = net()\n"
        "class Space: inner = net\n"
    )
    (tmp_path / "broken.py").write_text("def net(:\n")
    (tmp_path / "failing.py").write_text("1 / 0\n")
    return "mine:net"


def test_inspect_shows_every_weight_in_the_models_order(file: Path, bridge_cli: Any) -> None:
    answer = bridge_cli("inspect", file)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert f"file           {file}" in lines
    assert "keras version  2.2.4" in lines
    assert "parameters     90" in lines
    assert "preprocessing  not known" in lines
    table = [line.split() for line in lines[lines.index("") + 1 :]]
    assert table[0] == ["layer", "class", "weight", "shape", "type"]
    assert [row[:2] for row in table[1:]] == [key.split("/") for key in bridge.read(file)]


def test_inspect_json_is_for_programs(file: Path, bridge_cli: Any) -> None:
    given = json.loads(bridge_cli("inspect", file, "--json").out)
    assert (given["format"], given["keras_version"], given["backend"]) == ("keras-h5-weights", "2.2.4", "tensorflow")
    assert (given["tensors"], given["parameters"], given["preprocessing"]) == (8, 90, None)
    assert [layer["name"] for layer in given["layers"]] == ["conv", "bn", "fc"]
    assert given["layers"][0]["weights"]["kernel"] == {"shape": [3, 3, 1, 4], "dtype": "float32"}


def test_plan_shows_what_a_load_would_do(file: Path, into: str, tmp_path: Path, bridge_cli: Any) -> None:
    shown = bridge_cli("plan", file, "--into", into, folder=tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0] == "made.h5 -> Module: 8 copied, 0 skipped, 2 untouched"
    options = ["--skip", "fc/bias", "--rename", "conv=conv", "--flatten", "fc=none", "--json"]
    given = json.loads(bridge_cli("plan", file, "--into", into, *options, folder=tmp_path).out)
    assert [copy["target"] for copy in given["copied"]][:2] == ["conv.weight", "conv.bias"]
    assert given["skipped"] == [{"source": "fc/bias", "reason": "left out by skip"}]
    assert [entry["target"] for entry in given["untouched"]] == ["fc.bias", "more.weight", "more.bias"]
    assert next(copy for copy in given["copied"] if copy["source"] == "fc/kernel")["transform"] == "axes (1, 0)"


@pytest.mark.parametrize("factory", ["mine:ready", "mine:Space.inner"])
def test_into_takes_a_module_or_an_attribute_of_an_attribute(
    factory: str, file: Path, into: str, tmp_path: Path, bridge_cli: Any
) -> None:
    done = bridge_cli("plan", file, "--into", factory, folder=tmp_path)
    assert (done.code, done.out.splitlines()[0].split(":")[1]) == (0, " 8 copied, 0 skipped, 2 untouched")
    assert into


INTO = {
    "mine": "is not of the form package.module:factory",
    "mine:": "is not of the form",
    ":net": "is not of the form",
    "nowhere:net": "No module named 'nowhere'",
    ".mine:net": "--into '.mine:net'",
    "mine:absent": "has no attribute 'absent'",
    "mine:needs": "could not be called without arguments",
    "mine:number": "made a int, not an nn.Module",
    "mine:raises": "could not be called without arguments: two",
    "broken:net": "--into 'broken:net': invalid syntax",
    "failing:net": "--into 'failing:net': division by zero",
}


def test_an_into_that_makes_no_module_is_one_line(
    file: Path, into: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bridge.__main__ import main

    monkeypatch.syspath_prepend(tmp_path)
    assert into
    for spec, message in INTO.items():
        assert main(["plan", str(file), "--into", spec]) == 2, spec
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), spec
        assert err.startswith("bridge: --into")
        assert message in err
        assert "Traceback" not in err


def test_shapes_that_do_not_fit_are_one_line_and_code_2(file: Path, into: str, tmp_path: Path, bridge_cli: Any) -> None:
    done = bridge_cli("plan", file, "--into", into.replace("net", "large"), folder=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "conv/kernel is (3, 3, 1, 4) in Keras order, (4, 1, 3, 3) in PyTorch order, but conv.weight is" in done.err


CALLS: dict[str, tuple[list[str], str]] = {
    "no verb": ([], "the following arguments are required"),
    "no such verb": (["explain", "{file}"], "invalid choice"),
    "no file": (["inspect"], "required: FILE"),
    "no into": (["plan", "{file}"], "required: --into"),
    "no such option": (["inspect", "{file}", "--jsn"], "unrecognized arguments: --jsn"),
    "no such scheme": (["convert", "{file}", "x.pt", "--to", "onnx"], "invalid choice: 'onnx'"),
    "a rename without =": (["plan", "{file}", "--into", "torch.nn:ReLU", "--rename", "a"], "OLD=NEW"),
    "a flatten without a map": (["convert", "{file}", "x.pt", "--flatten", "fc"], "LAYER=HxWxC"),
    "a flatten without numbers": (["convert", "{file}", "x.pt", "--flatten", "fc=axbxc"], "LAYER=HxWxC"),
    "a flatten of one size": (["convert", "{file}", "x.pt", "--flatten", "fc=16"], "LAYER=HxWxC"),
    "a flatten that does not fit": (["convert", "{file}", "x.pt", "--flatten", "fc=3x3x4"], "fc takes 16 values"),
    "a flatten of another layer": (["convert", "{file}", "x.pt", "--flatten", "fd=2x2x4"], "There are conv, bn, fc"),
    "a skip of nothing": (["convert", "{file}", "x.pt", "--skip", "cnv"], "nearest names are conv"),
}


@pytest.mark.parametrize(("arguments", "message"), CALLS.values(), ids=CALLS.keys())
def test_a_wrong_call_is_one_line_and_code_2(
    arguments: list[str], message: str, file: Path, refused: Any, tmp_path: Path
) -> None:
    filled = [str(file) if word == "{file}" else word.replace("x.pt", f"{tmp_path}/x.pt") for word in arguments]
    assert message in refused(*filled)
    assert not (tmp_path / "x.pt").exists()


def test_the_version_and_the_help_are_given(bridge_cli: Any) -> None:
    assert bridge_cli("--version").out.strip() == bridge.__version__
    text = bridge_cli("plan", "--help")
    assert text.code == 0
    assert all(option in text.out for option in ("--into", "--prefix", "--rename", "--skip", "--strict", "--flatten"))


def test_into_takes_plain_arguments(file: Path, tmp_path: Path, bridge_cli: Any) -> None:
    (tmp_path / "sized.py").write_text(
        "from torch import nn\n"
        "def net(channels, *, bias):\n"
        "    net = nn.Module()\n"
        "    net.conv = nn.Conv2d(1, channels, 3, bias=bias)\n"
        "    return net\n"
    )
    shown = bridge_cli("plan", file, "--into", "sized:net(4, bias=False)", "--json", folder=tmp_path)
    assert [copy["source"] for copy in json.loads(shown.out)["copied"]] == ["conv/kernel"]
    refused = bridge_cli("plan", file, "--into", "sized:net(__import__('os').getpid())", folder=tmp_path)
    assert refused.code == 2
    assert "write plain values in the brackets" in refused.err
