"""The command line: what it prints, what it writes, and one clear line for whatever it cannot use."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import bridge

ROOT = Path(__file__).resolve().parents[2]
Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


@pytest.fixture
def file(written: Write, numbers: Draw) -> Path:
    """A convolution, a normalisation and a dense layer behind a Flatten of 2 x 2 x 4."""
    layers = {
        "conv": {"conv/kernel:0": numbers(3, 3, 1, 4), "conv/bias:0": numbers(4)},
        "bn": {f"bn/{role}:0": numbers(4) for role in ("gamma", "beta", "moving_mean", "moving_variance")},
        "fc": {"fc/kernel:0": numbers(16, 2), "fc/bias:0": numbers(2)},
    }
    return written(layers, keras_version="2.2.4", backend="tensorflow")


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


def run_here(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a user types it, in a folder of the user's."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bridge", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


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


def test_plan_shows_what_a_load_would_do(file: Path, into: str, tmp_path: Path) -> None:
    shown = run_here(tmp_path, "plan", file, "--into", into)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == "made.h5 -> Module: 8 copied, 0 skipped, 2 untouched"
    options = ["--skip", "fc/bias", "--rename", "conv=conv", "--flatten", "fc=none", "--json"]
    given = json.loads(run_here(tmp_path, "plan", file, "--into", into, *options).stdout)
    assert [copy["target"] for copy in given["copied"]][:2] == ["conv.weight", "conv.bias"]
    assert given["skipped"] == [{"source": "fc/bias", "reason": "left out by skip"}]
    assert [entry["target"] for entry in given["untouched"]] == ["fc.bias", "more.weight", "more.bias"]
    assert next(copy for copy in given["copied"] if copy["source"] == "fc/kernel")["transform"] == "axes (1, 0)"


@pytest.mark.parametrize("factory", ["mine:ready", "mine:Space.inner"])
def test_into_takes_a_module_or_an_attribute_of_an_attribute(
    factory: str, file: Path, into: str, tmp_path: Path
) -> None:
    done = run_here(tmp_path, "plan", file, "--into", factory)
    assert (done.returncode, done.stdout.splitlines()[0].split(":")[1]) == (0, " 8 copied, 0 skipped, 2 untouched")
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


def test_shapes_that_do_not_fit_are_one_line_and_code_2(file: Path, into: str, tmp_path: Path) -> None:
    done = run_here(tmp_path, "plan", file, "--into", into.replace("net", "large"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert (
        "conv/kernel is (3, 3, 1, 4) in Keras order, (4, 1, 3, 3) in PyTorch order, but conv.weight is" in done.stderr
    )


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_convert_writes_every_tensor_in_pytorchs_axes(suffix: str, file: Path, bridge_cli: Any, tmp_path: Path) -> None:
    there = tmp_path / f"out{suffix}"
    answer = bridge_cli("convert", file, there)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == f"8 tensors -> {there}"
    assert any(line.startswith("fc/kernel -> fc.weight: flattened (2, 2, 4)") for line in answer.out.splitlines())
    given = load_file(there) if suffix == ".safetensors" else torch.load(there, weights_only=True)
    source = bridge.read(file)
    assert torch.equal(given["conv.weight"], torch.from_numpy(source["conv/kernel"]).permute(3, 2, 0, 1))
    assert torch.equal(given["bn.running_var"], torch.from_numpy(source["bn/moving_variance"]))
    dense = torch.from_numpy(source["fc/kernel"]).reshape(2, 2, 4, 2).permute(3, 2, 0, 1).reshape(2, 16)
    assert torch.equal(given["fc.weight"], dense)


def test_a_converted_file_loads_to_the_same_bits_as_its_original(
    file: Path, bridge_cli: Any, tmp_path: Path, chain: Any
) -> None:
    def net() -> nn.Module:
        return chain(("conv", nn.Conv2d(1, 4, 3)), ("bn", nn.BatchNorm2d(4, eps=1e-3)), ("fc", nn.Linear(16, 2)))

    direct, again = net(), net()
    bridge.load(direct, file, strict=True)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.pt"
    assert bridge_cli("convert", file, first).code == 0
    assert bridge_cli("convert", first, second).code == 0
    for path in (first, second):
        plan = bridge.load(again, path, strict=True)
        assert [key.split("/")[0] for key in plan.copied] == ["conv"] * 2 + ["bn"] * 4 + ["fc"] * 2
        assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in direct.state_dict().items())


def test_a_depthwise_kernel_is_told_by_its_bias_where_the_file_says_no_class(
    written: Any, numbers: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    depthwise = {"a/kernel:0": numbers(3, 2, 4, 5), "a/bias:0": numbers(20)}
    alone = {"b/kernel:0": numbers(3, 2, 4, 1), "b/bias:0": numbers(4)}
    plain = {"c/kernel:0": numbers(3, 2, 4, 5), "c/bias:0": numbers(5)}
    there = tmp_path / "there.safetensors"
    assert bridge_cli("convert", written({"a": depthwise, "b": alone, "c": plain}), there).code == 0
    shapes = {name: list(tensor.shape) for name, tensor in load_file(there).items() if name.endswith("weight")}
    assert shapes == {"a.weight": [20, 1, 3, 2], "b.weight": [4, 1, 3, 2], "c.weight": [5, 4, 3, 2]}


def test_the_header_of_a_converted_file_says_where_it_came_from(file: Path, bridge_cli: Any, tmp_path: Path) -> None:
    there = tmp_path / "out.safetensors"
    bridge_cli("convert", file, there)
    with safe_open(there, framework="pt") as opened:
        header = opened.metadata()
    assert header["source_file"] == "made.h5"
    assert header["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert header["format"] == "keras-h5-weights"
    assert header["keras_version"] == "2.2.4"
    assert header["torch_convae_version"] == bridge.__version__
    assert "preprocessing" not in header
    assert bridge.read(there).keras_version == "2.2.4"


def test_the_header_of_the_converted_vgg16_says_its_preprocessing(
    vgg16_file: Path, bridge_cli: Any, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    assert bridge_cli("convert", vgg16_file, there).code == 0
    with safe_open(there, framework="pt") as opened:
        preprocessing = json.loads(opened.metadata()["preprocessing"])
    assert (preprocessing["mode"], preprocessing["order"]) == ("caffe", "BGR")
    assert preprocessing["mean"] == [103.939, 116.779, 123.68]
    assert "preprocessing  caffe: BGR, 0..255 minus (103.939, 116.779, 123.68)" in bridge_cli("inspect", there).out


def test_convert_leaves_out_what_it_is_told_to(file: Path, bridge_cli: Any, tmp_path: Path) -> None:
    answer = bridge_cli("convert", file, tmp_path / "x.pt", "--skip", "fc", "--skip", "*/bias")
    lines = answer.out.splitlines()
    assert "skipped fc/kernel: left out by skip" in lines
    assert "skipped conv/bias: left out by skip" in lines
    assert set(torch.load(tmp_path / "x.pt")) == {"conv.weight", *(f"bn.{name}" for name in BN)}


BN = ("weight", "bias", "running_mean", "running_var")


def test_a_layer_kind_that_is_not_known_is_refused_with_the_way_out(
    written: Write, numbers: Draw, refused: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    cell = {"kernel": numbers(3, 4), "recurrent_kernel": numbers(2, 4), "bias": numbers(4)}
    path = written({"cell": cell, "fc": {"kernel": numbers(2, 2)}})
    assert "cell is a layer with kernel, recurrent_kernel, bias" in refused("convert", path, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()
    assert bridge_cli("convert", path, tmp_path / "x.pt", "--skip", "cell").code == 0


def test_a_weight_that_its_layer_kind_does_not_have_is_refused(
    written: Write, numbers: Draw, refused: Any, tmp_path: Path
) -> None:
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {"name": "fc"}}]}}
    weights = {"fc": {"kernel": numbers(2, 2), "scale": numbers(2)}}
    path = written(weights, inside="model_weights", model_config=json.dumps(config))
    assert "fc" in refused("convert", path, tmp_path / "x.pt")


def test_tensors_of_no_layer_keep_their_names(bridge_cli: Any, tmp_path: Path) -> None:
    state = {"weight": torch.ones(2, 3), "part.weight": torch.zeros(2, 3)}
    save_file(state, tmp_path / "in.safetensors")
    assert bridge_cli("convert", tmp_path / "in.safetensors", tmp_path / "out.pt").code == 0
    assert set(torch.load(tmp_path / "out.pt")) == set(state)


def test_two_tensors_that_would_take_one_name_are_refused(
    written: Write, numbers: Draw, refused: Any, tmp_path: Path
) -> None:
    path = written({"a.b": {"kernel": numbers(2, 2)}, "a/b": {"kernel": numbers(2, 2, seed=1)}})
    assert "a.b.kernel" in refused("convert", path, tmp_path / "x.pt")


def destination(tmp_path: Path, file: Path, kind: str) -> Path:
    there = tmp_path / "there.pt"
    if kind == "a folder":
        there.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(there)
    elif kind == "in a missing folder":
        there = tmp_path / "no" / "there.pt"
    elif kind == "below a file":
        there = file / "there.pt"
    elif kind == "another ending":
        there = tmp_path / "there.onnx"
    elif kind == "no ending":
        there = tmp_path / "there"
    elif kind == "a name that is too long":
        there = tmp_path / ("n" * 300 + ".pt")
    return there


DESTINATIONS = {
    "a folder": "is not a regular file",
    "a FIFO": "is not a regular file",
    "in a missing folder": "cannot be written: No such file or directory",
    "below a file": "cannot be written: Not a directory",
    "another ending": "should end in .safetensors, .pt or .pth",
    "no ending": "should end in",
    "a name that is too long": "cannot be written",
}


def test_names_that_are_empty_are_refused(file: Path, refused: Any) -> None:
    assert "The destination has no name" in refused("convert", file, "")
    assert "The name of the file is empty" in refused("inspect", "")
    assert "The name of the file is empty" in refused("convert", file, "x.h5", "--like", "")


@pytest.mark.parametrize(("kind", "message"), DESTINATIONS.items(), ids=DESTINATIONS.keys())
def test_a_destination_that_cannot_be_written_is_one_line_and_code_2(
    kind: str, message: str, file: Path, refused: Any, tmp_path: Path
) -> None:
    there = destination(tmp_path, file, kind)
    before = sorted(tmp_path.iterdir())
    line = refused("convert", file, there)
    assert str(there) in line
    assert message in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line_and_code_2(file: Path, refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "cannot be written: Permission denied" in refused("convert", file, folder / "x.pt")


@pytest.mark.parametrize("link", ["itself", "hard link", "symbolic link"])
def test_the_source_is_never_overwritten(link: str, file: Path, refused: Any, tmp_path: Path) -> None:
    source, there = tmp_path / "in.pt", tmp_path / "there.pt"
    bridge.convert(file, source)
    if link == "itself":
        there = source
    else:
        (os.link if link == "hard link" else os.symlink)(source, there)
    before = source.read_bytes()
    assert "is the source itself" in refused("convert", source, there)
    assert source.read_bytes() == before


def test_a_failed_conversion_leaves_the_former_file_as_it_was(
    file: Path, written: Write, numbers: Draw, refused: Any, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    bridge.convert(file, there)
    before = there.read_bytes()
    damaged = written({"fc": {"kernel": numbers(40, 40)}}, name="damaged.h5", compression="gzip")
    with h5py.File(damaged) as opened:
        chunk = opened["fc/kernel"].id.get_chunk_info(0)
    with damaged.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))
    refused("convert", damaged, there)
    assert there.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"made.h5", "damaged.h5", "out.safetensors"}


def test_a_converted_file_replaces_the_former_one(file: Path, bridge_cli: Any, tmp_path: Path) -> None:
    there = tmp_path / "out.pt"
    there.write_text("former")
    assert bridge_cli("convert", file, there).code == 0
    assert len(torch.load(there)) == 8


def test_a_reader_that_has_seen_enough_is_no_error(file: Path) -> None:
    """As with `| head -1`."""
    command = f"{sys.executable} -m bridge inspect {file} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m bridge {command}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("where", "reason"),
    [("> /dev/full", "No space left on device"), (">&-", "stdout is closed"), ("<&- >&-", "closed")],
)
def test_an_answer_that_cannot_be_printed_is_one_line_and_code_2(
    where: str, reason: str, file: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    done = in_shell(f"convert {file} {there} {where}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("bridge: The answer cannot be printed: ")
    assert reason in done.stderr
    assert done.stderr.endswith(f" {there} is written and complete.\n")
    assert len(load_file(there)) == 8


@pytest.mark.parametrize("call", ["--help", "--version", "convert --help"])
@pytest.mark.parametrize(("where", "reason"), [("> /dev/full", "No space left on device"), (">&-", "stdout is closed")])
def test_help_that_cannot_be_printed_is_one_line_and_code_2(call: str, where: str, reason: str) -> None:
    done = in_shell(f"{call} {where}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"The answer cannot be printed: {reason}" in done.stderr


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_the_exit_code_says_it_where_stderr_cannot(where: str, tmp_path: Path) -> None:
    for call in (f"inspect {tmp_path / 'nothing.h5'}", "inspect"):
        done = in_shell(f"{call} {where}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


STOPPED = """
import os, signal, sys, time
import bridge.__main__ as cli
def stopped(*_):
    os.kill(os.getpid(), int(sys.argv[3]))
    time.sleep(60)
cli.convert.__globals__["safetensors_files"].write = stopped
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main(["convert", *sys.argv[1:3]]))
"""


@pytest.mark.parametrize(("stop", "line"), [(15, "bridge: stopped by SIGTERM.\n"), (2, "bridge: interrupted.\n")])
def test_a_command_that_is_asked_to_stop_leaves_with_one_line_and_nothing_half_written(
    stop: int, line: str, file: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    there.write_text("former")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, file, there, str(stop)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + stop, "", line)
    assert (sorted(tmp_path.iterdir()), there.read_text()) == (before, "former")


def test_an_answer_of_any_size_that_cannot_be_printed_is_one_line(tmp_path: Path) -> None:
    save_file({f"layer{number}.weight": torch.zeros(1) for number in range(2000)}, tmp_path / "w.safetensors")
    done = in_shell(f"inspect {tmp_path / 'w.safetensors'} > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "The answer cannot be printed" in done.stderr


def test_characters_that_a_terminal_does_not_have_are_printed_as_their_numbers(tmp_path: Path) -> None:
    save_file({"größe.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    done = in_shell(f"inspect {tmp_path / 'w.safetensors'}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe" in done.stdout


def test_the_version_and_the_help_are_given(bridge_cli: Any) -> None:
    assert bridge_cli("--version").out.strip() == bridge.__version__
    text = bridge_cli("plan", "--help")
    assert text.code == 0
    assert all(option in text.out for option in ("--into", "--prefix", "--rename", "--skip", "--strict", "--flatten"))


def test_into_takes_plain_arguments(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sized.py").write_text(
        "from torch import nn\n"
        "def net(channels, *, bias):\n"
        "    net = nn.Module()\n"
        "    net.conv = nn.Conv2d(1, channels, 3, bias=bias)\n"
        "    return net\n"
    )
    shown = run_here(tmp_path, "plan", file, "--into", "sized:net(4, bias=False)", "--json")
    assert [copy["source"] for copy in json.loads(shown.stdout)["copied"]] == ["conv/kernel"]
    refused = run_here(tmp_path, "plan", file, "--into", "sized:net(__import__('os').getpid())")
    assert refused.returncode == 2
    assert "write plain values in the brackets" in refused.stderr
