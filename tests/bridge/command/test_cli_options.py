"""Pairing by order, adapting and proving, on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bridge

FACTORY = """
import torch
from torch import nn

def network(inputs=3, outputs=4, eps=1e-3):
    torch.manual_seed(0)
    layers = [("stem", nn.Conv2d(inputs, 6, 3)), ("scale", nn.BatchNorm2d(6, eps=eps, momentum=0.01))]
    layers += [("act", nn.ReLU()), ("head", nn.Conv2d(6, outputs, 1))]
    whole = nn.Sequential()
    for name, layer in layers:
        whole.add_module(name, layer)
    return whole
"""


@pytest.fixture
def made(keras: Any, randomised: Any, saved: Any) -> Path:
    """A Keras file whose names have nothing in common with the module's."""
    layers = keras.layers
    x = inputs = layers.Input((8, 7, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, name="conv_in")(x))
    x = layers.Conv2D(4, 1, name="conv_out")(layers.ReLU(name="relu")(x))
    (Path(__file__).parents[3] / "factory_of_tests.py").write_text(FACTORY)
    return saved(randomised(keras.Model(inputs, x)))


@pytest.fixture(autouse=True)
def _tidy() -> Any:
    yield
    (Path(__file__).parents[3] / "factory_of_tests.py").unlink(missing_ok=True)


INTO = ("--into", "factory_of_tests:network")


def test_layers_are_paired_by_order_where_asked(made: Path, bridge_cli: Any) -> None:
    assert bridge_cli("plan", made, *INTO).code == 2
    plan = json.loads(bridge_cli("plan", made, *INTO, "--by", "order", "--strict", "--json").out)
    pairs = {copy["source"]: copy["target"] for copy in plan["copied"]}
    assert pairs["conv_in/kernel"] == "stem.weight"
    assert pairs["norm/moving_variance"] == "scale.running_var"
    assert pairs["conv_out/bias"] == "head.bias"


def test_an_order_that_cannot_be_is_refused_with_both_counts(made: Path, refused: Any) -> None:
    line = refused("plan", made, "--into", "factory_of_tests:network(outputs=5)", "--by", "order")
    assert "conv_out would go to head" in line
    line = refused("plan", made, *INTO, "--by", "order", "--skip", "conv_in")
    assert "model.h5 has 1 Conv2D and Sequential 2" in line


def test_verify_says_what_is_proved_and_ends_with_0(made: Path, bridge_cli: Any) -> None:
    answer = bridge_cli("verify", made, *INTO, "--by", "order")
    assert answer.code == 0, answer
    assert "3 compute the same" in answer.out


def test_verify_names_the_first_layer_that_differs_and_ends_with_1(made: Path, bridge_cli: Any) -> None:
    answer = bridge_cli("verify", made, "--into", "factory_of_tests:network(eps=1e-5)", "--by", "order")
    assert answer.code == 1
    assert "eps=1e-05" in next(line for line in answer.out.splitlines() if line.startswith("norm"))
    report = json.loads(
        bridge_cli("verify", made, "--into", "factory_of_tests:network(eps=1e-5)", "--by", "order", "--json").out
    )
    assert report["first"] == "norm"


def test_a_converted_file_is_proved_by_the_one_it_came_from(made: Path, bridge_cli: Any, tmp_path: Path) -> None:
    converted = tmp_path / "w.safetensors"
    named = [("--rename", "conv_in=stem"), ("--rename", "norm=scale"), ("--rename", "conv_out=head")]
    flags = [part for pair in named for part in pair]
    module = torch.nn.ModuleDict({"stem": torch.nn.Conv2d(3, 6, 3), "head": torch.nn.Conv2d(6, 4, 1)})
    module["scale"] = torch.nn.BatchNorm2d(6)
    bridge.load(module, made, by="order")
    torch.save(module.state_dict(), tmp_path / "w.pt")
    assert bridge_cli("verify", made, *INTO, *flags, "--weights", tmp_path / "w.pt").code == 0
    with torch.no_grad():
        module["head"].weight.copy_(module["head"].weight.flip(1))
    torch.save(module.state_dict(), tmp_path / "w.pt")
    assert bridge_cli("verify", made, *INTO, *flags, "--weights", tmp_path / "w.pt").code == 1
    assert not converted.exists()


def test_recorded_outputs_prove_the_whole(keras: Any, made: Path, bridge_cli: Any, images: Any, tmp_path: Path) -> None:
    x = images(2, 8, 7, 3)
    y = keras.saving.load_model(made)(x, training=False).detach().numpy()
    np.savez(tmp_path / "right.npz", x=x, y=y)
    np.savez(tmp_path / "wrong.npz", x=x, y=y[..., ::-1])
    assert bridge_cli("verify", made, *INTO, "--by", "order", "--reference", tmp_path / "right.npz").code == 0
    answer = bridge_cli("verify", made, *INTO, "--by", "order", "--reference", tmp_path / "wrong.npz")
    assert answer.code == 1


def test_channels_are_added_and_flipped_and_the_plan_says_so(made: Path, bridge_cli: Any, tmp_path: Path) -> None:
    into = ("--into", "factory_of_tests:network(inputs=1)", "--by", "order")
    plan = bridge_cli("plan", made, *into, "--in-channels", 1)
    assert plan.code == 0, plan
    assert "summed" in next(line for line in plan.out.splitlines() if line.startswith("conv_in/kernel"))
    assert bridge_cli("convert", made, tmp_path / "flipped.safetensors", "--flip-input").code == 0
    kernel = bridge.read(made)["conv_in/kernel"]
    np.testing.assert_array_equal(
        load_file(tmp_path / "flipped.safetensors")["conv_in.weight"].numpy(), kernel[:, :, ::-1].transpose(3, 2, 0, 1)
    )


def test_a_normalisation_is_folded_away(made: Path, bridge_cli: Any, tmp_path: Path) -> None:
    answer = bridge_cli("convert", made, tmp_path / "folded.safetensors", "--fold-batch-norm")
    assert answer.code == 0, answer
    assert "skipped norm/gamma: folded into the layer in front of it" in answer.out
    assert set(load_file(tmp_path / "folded.safetensors")) == {
        f"{layer}.{weight}" for layer in ("conv_in", "conv_out") for weight in ("weight", "bias")
    }


def test_the_rows_of_a_head_follow_their_classes(made: Path, bridge_cli: Any, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("car\ntruck\ntree\nsky\n")
    (tmp_path / "new.txt").write_text("sky\nvehicle = car + truck\nbicycle =\n")
    flags = ("--classes", tmp_path / "old.txt", tmp_path / "new.txt")
    plan = bridge_cli("plan", made, "--into", "factory_of_tests:network(outputs=3)", "--by", "order", *flags, "--json")
    assert plan.code == 0, plan
    head = next(copy for copy in json.loads(plan.out)["copied"] if copy["target"] == "head.weight")
    assert head["rows"] == [0, 1]
    refused = bridge_cli("convert", made, tmp_path / "x.pt", *flags)
    assert (refused.code, refused.out) == (2, "")
    assert "the new classes have no rows" in refused.err
    (tmp_path / "new.txt").write_text("sky\nvehicle = car + truck\n")
    assert bridge_cli("convert", made, tmp_path / "x.safetensors", *flags).code == 0
    kernel = bridge.read(made)["conv_out/kernel"][0, 0]
    given = load_file(tmp_path / "x.safetensors")["conv_out.weight"][:, :, 0, 0].numpy()
    np.testing.assert_allclose(given, np.stack([kernel[:, 3], kernel[:, :2].mean(-1)]), rtol=1e-6)


def test_classes_that_are_new_keep_what_the_module_has(made: Path) -> None:
    module = torch.nn.ModuleDict({"conv_out": torch.nn.Conv2d(6, 3, 1)})
    before = module["conv_out"].weight.detach().clone()
    old = ["car", "truck", "tree", "sky"]
    bridge.load(module, made, classes=(old, ["sky", "bicycle", "car"]), skip=["conv_in", "norm"])
    kernel = bridge.read(made)["conv_out/kernel"]
    after = module["conv_out"].weight.detach()
    assert torch.equal(after[1], before[1])
    np.testing.assert_array_equal(after[[0, 2], :, 0, 0].numpy(), kernel[0, 0, :, [3, 0]])
