"""convert writes every tensor in PyTorch's axes, under a scheme's names, and nothing where that is not possible."""

import hashlib
import json
import os
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

Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


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
