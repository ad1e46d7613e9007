"""A load proved without Keras: what is right is called the same, every planted mistake is found by name."""

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from proofs import verdicts
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.verify import Report, verify, verify_file

Loaded = tuple[nn.Module, Path]


def test_a_good_load_is_proved_layer_by_layer(small: Loaded) -> None:
    report = verify(*small)
    assert report.ok
    assert report.first is None
    assert report.plan.verified
    assert verdicts(report) == dict.fromkeys(("conv_a", "conv_b", "norm", "fc"), "same")
    assert all(proof.difference <= 1e-9 * proof.scale for proof in report.layers)


def test_the_report_is_a_table_and_plain_values(small: Loaded) -> None:
    report = verify(*small)
    lines = str(report).splitlines()
    assert lines[0] == "model.h5 and Chain: 4 compute the same, 0 differ, 0 not proved"
    assert lines[1].split() == ["layer", "class", "module", "largest", "difference", "verdict"]
    assert lines[2].split()[:3] == ["conv_a", "Conv2D", "conv_a"]
    assert lines[2].endswith("same")
    values = json.loads(json.dumps(report.to_dict()))
    assert (values["ok"], values["first"], len(values["layers"])) == (True, None, 4)


def test_nothing_of_the_module_changes(small: Loaded, unchanged: Any) -> None:
    module, path = small
    module.train()
    calls: list[object] = []
    module.get_submodule("conv_a").register_forward_hook(lambda *given: calls.append(given))
    same = unchanged(module)
    verify(module, path)
    assert same()
    assert module.training
    assert module.get_submodule("norm").training
    assert calls == []


def planted(small: Loaded, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Report:
    """The report after a parameter was changed in place."""
    module, path = small
    tensor = module.state_dict()[name]
    tensor.copy_(change(tensor.clone()))
    return verify(module, path)


@pytest.mark.parametrize("order", [order for order in permutations(range(4)) if order != (0, 1, 2, 3)])
def test_every_wrong_order_of_a_kernels_axes_is_found(small: Loaded, order: tuple[int, ...]) -> None:
    shape = small[0].state_dict()["conv_b.weight"].shape
    if tuple(shape[axis] for axis in order) != tuple(shape):
        return  # that one, a shape check finds
    report = planted(small, "conv_b.weight", lambda weight: weight.permute(order))
    assert not report.ok
    assert report.first is not None
    assert report.first.name == "conv_b"
    assert report.first.reason == "conv_b.weight holds the file's numbers in another order"
    assert verdicts(report) == {"conv_a": "same", "conv_b": "differs", "norm": "same", "fc": "same"}


MISTAKES = {
    "channels the other way round": ("conv_a.weight", lambda weight: weight.flip(1), "numbers in another order"),
    "a flipped kernel": ("conv_a.weight", lambda weight: weight.flip(2, 3), "numbers in another order"),
    "one number": (
        "conv_a.weight",
        lambda weight: weight.index_put((torch.tensor(0),) * 4, weight[0, 0, 0, 0] * 1.001),
        "differs from the file in 1 of 144 numbers",
    ),
    "another bias": ("conv_b.bias", lambda bias: bias + 1e-3, "differs from the file in 4 of 4 numbers"),
    "another height, width, channels": (
        "fc.weight",
        lambda weight: weight.reshape(3, 4, 6, 5).permute(0, 2, 3, 1).reshape(3, 120),
        "numbers in another order",
    ),
    "height and width swapped": (
        "fc.weight",
        lambda weight: weight.reshape(3, 4, 6, 5).transpose(2, 3).reshape(3, 120),
        "numbers in another order",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(small: Loaded, mistake: str) -> None:
    name, change, reason = MISTAKES[mistake]
    report = planted(small, name, change)
    assert [proof.name for proof in report.layers if proof.verdict == "differs"] == [name.partition(".")[0]]
    assert report.first is not None
    assert report.first.reason.startswith(name)
    assert reason in report.first.reason


@pytest.mark.parametrize(
    ("one", "two"), [("weight", "bias"), ("running_mean", "running_var")], ids=["gamma, beta", "mean, variance"]
)
def test_swapped_weights_of_a_normalisation_are_found(small: Loaded, one: str, two: str) -> None:
    state = small[0].state_dict()
    first, second = state[f"norm.{one}"].clone(), state[f"norm.{two}"].abs()
    state[f"norm.{one}"].copy_(state[f"norm.{two}"])
    state[f"norm.{two}"].copy_(first)
    report = verify(*small)
    assert report.first is not None
    assert report.first.reason == f"norm.{one} holds what belongs to norm.{two}"
    assert second.numel() == 4


def test_swapped_layers_are_found(small: Loaded) -> None:
    a, b = (small[0].get_submodule(name) for name in ("conv_a", "conv_b"))
    state = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    a.load_state_dict(b.state_dict())
    b.load_state_dict(state)
    report = verify(*small)
    assert [proof.name for proof in report.layers if proof.verdict == "differs"] == ["conv_a", "conv_b"]
    assert report.first is not None
    assert report.first.reason == "conv_a.weight holds the numbers of conv_b/kernel"


@pytest.mark.parametrize("weights_only", [True, False])
def test_an_epsilon_that_is_not_kerass_is_found(keras: Any, network: Any, weights_only: bool) -> None:
    pair = ("norm", keras.layers.BatchNormalization(), nn.BatchNorm2d(4))
    report = verify(*network((6, 5, 4), pair, weights_only=weights_only))
    assert report.first is not None
    assert report.first.reason == "the module has eps=1e-05, Keras epsilon=0.001"


def test_an_epsilon_that_the_file_does_not_say_can_be_said(keras: Any, network: Any) -> None:
    pair = ("norm", keras.layers.BatchNormalization(epsilon=1.001e-5), nn.BatchNorm2d(4, eps=1.001e-5))
    module, path = network((6, 5, 4), pair, weights_only=True)
    assert not verify(module, path).ok
    assert verify(module, path, epsilon=1.001e-5).ok


class InFloat32(nn.Conv2d):
    """Computes in float32, whatever it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x.float(), self.weight.float(), self.bias.float()).to(x.dtype)


def test_what_float32_cannot_tell_is_the_same_and_is_told(keras: Any, network: Any) -> None:
    norm = keras.layers.BatchNormalization(epsilon=1.005e-5)
    report = verify(
        *network(
            (9, 8, 4),
            ("conv", keras.layers.Conv2D(4, 3), InFloat32(4, 4, 3)),
            ("norm", norm, nn.BatchNorm2d(4, eps=1e-5)),
        )
    )
    assert report.ok
    assert all(proof.reason.startswith("but no closer than float32: the ") for proof in report.layers)
    assert report.layers[1].reason.endswith("the module has eps=1e-05, Keras epsilon=1.005e-05")


def test_what_is_skipped_is_not_proved_and_what_is_left_out_is_compared(small: Loaded) -> None:
    module, path = small
    report = verify(module, path, skip="conv_b")
    assert verdicts(report) == {"conv_a": "same", "conv_b": "not proved", "norm": "same", "fc": "same"}
    assert [proof.reason for proof in report.not_proved] == ["left out by skip"]
    assert any("2 of the module's parameters have no source, first conv_b.weight" in note for note in report.notes)
    module.get_submodule("conv_b").bias.data.zero_()
    report = verify(module, path, skip="conv_b/bias")
    assert (report.ok, report.layers[1].reason) == (True, "the numbers were compared: parts of it are left out by skip")


def test_a_bias_that_the_module_lacks_is_found(keras: Any, network: Any) -> None:
    report = verify(*network((6, 5, 2), ("conv", keras.layers.Conv2D(3, 3), nn.Conv2d(2, 3, 3, bias=False))))
    assert report.first is not None
    assert report.first.reason == "the module's conv takes no bias"


def test_numbers_that_are_not_finite_are_never_the_same(written: Any) -> None:
    kernel = np.full((3, 2), np.nan, np.float32)
    path = written({"fc": {"fc/kernel:0": kernel, "fc/bias:0": np.zeros(2, np.float32)}})
    module = nn.ModuleDict({"fc": nn.Linear(3, 2)})
    bridge.load(module, path)
    report = verify(module, path)
    assert report.first is not None
    assert "not finite" in report.first.reason


def test_changed_weights_are_proved_with_the_same_options(keras: Any, network: Any, chain: Any) -> None:
    pair = ("conv", keras.layers.Conv2D(3, 3), nn.Conv2d(3, 3, 3))
    _, path = network((9, 8, 3), pair)
    module = chain(("conv", nn.Conv2d(3, 3, 3)))
    bridge.load(module, path, flip_input=True)
    assert verify(module, path, flip_input=True).ok
    assert not verify(module, path).ok


def test_a_map_that_is_not_the_files_is_told(small: Loaded) -> None:
    module, path = small
    bridge.load(module, path, flatten={"fc": (5, 4, 6)})
    report = verify(module, path, flatten={"fc": (5, 4, 6)})
    assert report.notes == (
        "fc takes a flattened (6, 5, 4) map by the file, (5, 4, 6) by flatten; it is proved with that.",
    )
    assert not verify(module, path).ok


def test_what_a_reshape_makes_of_a_dense_layers_outputs_is_proved(keras: Any, network: Any) -> None:
    layers = keras.layers
    module, path = network(
        (5,),
        ("fc", layers.Dense(24), nn.Linear(5, 24)),
        ("norm", layers.BatchNormalization(), nn.BatchNorm1d(24, eps=1e-3)),
        ("", layers.Reshape((4, 3, 2)), nn.Unflatten(1, (2, 4, 3))),
        ("up", layers.Conv2DTranspose(3, 2), nn.ConvTranspose2d(2, 3, 2)),
    )
    assert verify(module, path, keras=True).ok
    bridge.load(module, path, skip="fc", unflatten={"norm": None})
    assert verdicts(verify(module, path)) == {"fc": "same", "norm": "differs", "up": "same"}


def test_a_separable_convolution_without_a_forward_is_proved_part_by_part(keras: Any, network: Any) -> None:
    parts = nn.ModuleDict({"over": nn.Conv2d(4, 8, 3, groups=4, bias=False), "across": nn.Conv2d(8, 6, 1)})
    layer = keras.layers.SeparableConv2D(6, 3, depth_multiplier=2)
    report = verify(*network((6, 5, 4), ("separable", layer, parts)))
    assert report.ok
    assert report.layers[0].reason == (
        "its two convolutions one after the other: right only where the module around does nothing between them"
    )


@pytest.mark.parametrize(
    ("between", "behind", "padding", "ok", "reason"),
    [
        ([], [], 1, True, ""),
        ([], [nn.ReLU()], 1, True, "what its container makes of the two convolutions' output"),
        ([nn.ReLU()], [], 1, False, "computes something else"),
        ([], [], 0, True, "but padding=(0, 0) here and 'same' in Keras"),
    ],
    ids=["nothing", "an activation behind", "an activation between", "another padding"],
)
def test_what_a_separable_convolution_computes_between_its_steps_counts(
    between: list[nn.Module],
    behind: list[nn.Module],
    padding: int,
    ok: bool,
    reason: str,
    keras: Any,
    network: Callable[..., Loaded],
) -> None:
    first, second = nn.Conv2d(4, 4, 3, padding=padding, groups=4, bias=False), nn.Conv2d(4, 6, 1)
    layer = keras.layers.SeparableConv2D(6, 3, padding="same")
    report = verify(*network((6, 5, 4), ("separable", layer, nn.Sequential(first, *between, second, *behind))))
    assert report.ok == ok
    assert reason in report.layers[0].reason if reason else not report.layers[0].reason


def test_a_head_for_new_classes_pads_as_it_did(keras: Any, saved: Any, randomised: Any, chain: Any) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(3, 1, name="head")])))
    module, classes = chain(("head", nn.Conv2d(3, 4, 1))), (["road", "sky", "car"], ["sky", "new", "road", "car"])
    bridge.load(module, path, classes=classes)
    assert verify(module, path, classes=classes).layers[0].reason == "after: 3 -> 4 classes by name"


def test_a_converted_file_is_proved_by_its_source(small: Loaded, tmp_path: Path) -> None:
    module, path = small
    converted = tmp_path / "converted.safetensors"
    bridge.convert(path, converted)
    assert verify_file(path, module, weights=converted).ok
    assert verify_file(path, module).ok
    state = bridge.read(converted)
    broken = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    broken = {name.replace("/", "."): tensor for name, tensor in broken.items()}
    broken["conv_b.weight"] = broken["conv_b.weight"].transpose(2, 3).contiguous()
    report = verify_file(path, module, weights=broken)
    assert report.first is not None
    assert report.first.name == "conv_b"


def test_numbers_of_a_state_dict_are_compared(small: Loaded) -> None:
    module, _ = small
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    report = verify(module, state)
    assert report.ok
    assert {proof.reason for proof in report.layers} == {"the numbers were compared"}
    state["conv_b.weight"][0, 0, 0, 0] += 1
    assert verdicts(verify(module, state))["conv_b"] == "differs"


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_a_tensor_with_a_number_that_is_none_does_not_hide_that_all_others_differ(other: float, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    state = {name: tensor.clone() + other for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            state[name].view(-1)[0] = tensor.view(-1)[0] = torch.nan
    torch.save(state, tmp_path / "w.pt")
    report = verify(module, tmp_path / "w.pt")
    assert report.ok == (other == 0.0), report


def test_complex_weights_are_refused_by_real_ones(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    path = tmp_path / "w.safetensors"
    save_file({"0.weight": torch.ones(2, 2, dtype=torch.complex64), "0.bias": torch.ones(2)}, path)
    before = module[0].weight.clone()
    for act in (bridge.load, bridge.verify):
        with pytest.raises(bridge.BridgeError, match=r"w\.safetensors: 0/weight holds complex64 numbers, but 0"):
            act(module, path)
    assert torch.equal(module[0].weight, before)
