"""A head for other classes: every row goes where its name goes, and merged classes keep their probability."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bridge
from bridge import adapt
from bridge.source import Source

Draw = Callable[..., np.ndarray]
Save = Callable[..., Path]
OLD = ["sky", "road", "car", "truck", "bike"]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def head(numbers: Draw, *shape: int, **more: Any) -> Source:
    """A hidden convolution and a head."""
    arrays = {"body/kernel": numbers(3, 3, 3, shape[-2]), "body/bias": numbers(shape[-2])}
    return bridge.apply.source_of(arrays | {"head/kernel": numbers(*shape), "head/bias": numbers(shape[-1])} | more)


def test_rows_are_carried_over_by_name_and_bit_by_bit(numbers: Draw) -> None:
    source = head(numbers, 1, 1, 7, 5)
    adapted = adapt.classes(source, OLD, ["bike", "sky", "car"])
    assert np.array_equal(adapted["head/kernel"], source["head/kernel"][..., [4, 0, 2]])
    assert np.array_equal(adapted["head/bias"], source["head/bias"][[4, 0, 2]])
    assert [adapted.stored[f"head/{role}"].rows for role in ("kernel", "bias")] == [None, None]
    assert adapted.stored["head/kernel"].how == "5 -> 3 classes by name"
    assert np.array_equal(adapted["body/kernel"], source["body/kernel"])
    assert adapted.notes == ("head has the rows of 3 of its 5 classes, carried over by name; dropped: road, truck.",)
    assert (source.notes, source.shapes["head/bias"]) == ((), (5,))


def test_new_classes_leave_their_rows_to_the_module(numbers: Draw) -> None:
    source = head(numbers, 7, 5)
    adapted = adapt.classes(source, OLD, ["boat", "car", "bikes", "sky"])
    assert adapted.shapes["head/kernel"] == (7, 2)
    assert np.array_equal(adapted["head/kernel"], source["head/kernel"][:, [2, 0]])
    assert [adapted.stored[f"head/{role}"].rows for role in ("kernel", "bias")] == [(1, 3), (1, 3)]
    assert adapted.notes[-1] == (
        "New classes keep the module's initial values: boat, bikes "
        "(bikes is nearly the dropped bike: a slip of the pen?)."
    )


def test_a_module_keeps_its_own_rows_for_new_classes(numbers: Draw, chain: Any) -> None:
    source = head(numbers, 1, 1, 7, 5)
    module = chain(("body", torch.nn.Conv2d(3, 7, 3)), ("head", torch.nn.Conv2d(7, 3, 1)))
    before = {name: tensor.clone() for name, tensor in module.head.state_dict().items()}
    bridge.load(module, adapt.classes(source, OLD, ["car", "boat", "sky"]), strict=True)
    kernel = torch.from_numpy(source["head/kernel"]).permute(3, 2, 0, 1)
    assert torch.equal(module.head.weight, torch.stack([kernel[2], before["weight"][1], kernel[0]]))
    bias = torch.from_numpy(source["head/bias"])
    assert torch.equal(module.head.bias, torch.stack([bias[2], before["bias"][1], bias[0]]))


@pytest.mark.parametrize(
    ("shape", "rest"),
    [((7, 5), ()), ((1, 1, 7, 5), ()), ((3, 7, 5), ()), ((2, 2, 5, 7), ("Conv2DTranspose",))],
    ids=["Dense", "Conv2D", "Conv1D", "Conv2DTranspose"],
)
def test_merged_classes_are_the_mean_of_their_rows_and_keep_their_probability(
    shape: tuple[int, ...], rest: tuple[str, ...], numbers: Draw
) -> None:
    kernel, bias = numbers(*shape), numbers(5)
    source = bridge.apply.source_of({"head/kernel": kernel, "head/bias": bias})
    source = replace(source, kinds=dict.fromkeys(["head"], *rest)) if rest else source
    adapted = adapt.classes(source, OLD, {"vehicle": ["car", "truck", "bike"], "sky": "sky", "street": ("road",)})
    rows = np.moveaxis(kernel.astype(np.float64), -2 if rest else -1, 0)
    expected = np.stack([rows[2:].mean(0), rows[0], rows[1]])
    np.testing.assert_allclose(np.moveaxis(adapted["head/kernel"], -2 if rest else -1, 0), expected, rtol=1e-6)
    np.testing.assert_allclose(adapted["head/bias"], [bias[2:].mean() + np.log(3), bias[0], bias[1]], rtol=1e-6)
    assert "(vehicle = car + truck + bike) have the mean of their rows and log(number) more bias" in adapted.notes[-1]


def test_parts_with_equal_logits_give_the_sum_of_their_probabilities(numbers: Draw) -> None:
    kernel, bias = numbers(7, 5), numbers(5)
    kernel[:, 3], bias[3] = kernel[:, 2], bias[2]
    adapted = adapt.classes(
        bridge.apply.source_of({"head/kernel": kernel, "head/bias": bias}),
        OLD,
        {"vehicle": ["car", "truck"], "sky": "sky", "road": "road", "bike": "bike"},
    )
    x = numbers(6, 7, seed=1)
    before = softmax(x @ kernel + bias)
    after = softmax(x @ adapted["head/kernel"] + adapted["head/bias"])
    np.testing.assert_allclose(after[:, 0], before[:, 2] + before[:, 3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[:, 1:], before[:, [0, 1, 4]], rtol=1e-4, atol=1e-5)


def segmenter(keras: Any, activation: str, behind: bool) -> Any:
    layers = keras.layers
    steps = [
        layers.Conv2D(4, 3, name="body"),
        layers.Conv2D(5, 1, name="head", activation=None if behind else activation),
    ]
    steps += [layers.Reshape((-1, 5)), layers.Activation(activation)] if behind else []
    return keras.Sequential([keras.Input((7, 9, 3)), *steps])


@pytest.mark.parametrize("behind", [False, True], ids=["in the head", "behind it"])
@pytest.mark.parametrize(("activation", "extra"), [("softmax", np.log(2)), ("sigmoid", 0.0)])
def test_the_activation_decides_what_becomes_of_a_merged_bias(
    activation: str, extra: float, behind: bool, keras: Any, randomised: Any, saved: Save
) -> None:
    source = bridge.read(saved(randomised(segmenter(keras, activation, behind))))
    adapted = adapt.classes(source, OLD, {"vehicle": ["car", "truck"], "sky": "sky"})
    bias = source["head/bias"]
    np.testing.assert_allclose(adapted["head/bias"], [bias[2:4].mean() + extra, bias[0]], rtol=1e-6)
    assert f"under {activation}, parts with equal logits" in adapted.notes[-1]
    assert "taken for granted" not in adapted.notes[-1]


def test_keras_builds_the_model_for_the_new_classes(keras: Any, randomised: Any, saved: Save, images: Draw) -> None:
    model = randomised(segmenter(keras, "linear", behind=False))
    source = replace(bridge.read(saved(model)), architecture=json.loads(model.to_json()))
    adapted = adapt.classes(source, OLD, ["bike", "sky", "car"])
    other = keras.models.model_from_json(json.dumps(adapted.architecture))
    for name in ("body", "head"):
        other.get_layer(name).set_weights([adapted[f"{name}/kernel"], adapted[f"{name}/bias"]])
    shown = images(2, 7, 9, 3)
    before, after = (each(shown, training=False).detach().numpy() for each in (model, other))
    np.testing.assert_allclose(after, before[..., [4, 0, 2]], rtol=1e-4, atol=1e-5)


def test_a_state_dict_is_adapted_in_its_own_axes(chain: Any) -> None:
    module = chain(("a", torch.nn.Conv2d(3, 7, 3)), ("head", torch.nn.Conv2d(7, 5, 1)))
    adapted = adapt.classes(bridge.apply.source_of(module.state_dict()), OLD, ["bike", "boat", "sky"])
    assert np.array_equal(adapted["head/weight"], module.head.weight.detach().numpy()[[4, 0]])
    assert np.array_equal(adapted["head/bias"], module.head.bias.detach().numpy()[[4, 0]])
    assert adapted.stored["head/weight"].rows == (0, 2)
    smaller = chain(("a", torch.nn.Conv2d(3, 7, 3)), ("head", torch.nn.Conv2d(7, 2, 1)))
    bridge.load(smaller, adapt.classes(bridge.apply.source_of(module.state_dict()), OLD, ["bike", "sky"]), strict=True)
    assert torch.equal(smaller.head.weight, module.head.weight[[4, 0]])


def test_the_bias_of_a_head_without_one_is_not_invented(numbers: Draw) -> None:
    source = bridge.apply.source_of({"head/kernel": numbers(7, 5)})
    adapted = adapt.classes(source, OLD, {"vehicle": ["car", "truck"], "sky": "sky"})
    assert list(adapted) == ["head/kernel"]
    assert "the head has no bias" in adapted.notes[-1]


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "too few names": (OLD[:4], ["sky"], "head has 5 outputs, but 4 old classes are named. Correct the names"),
    "the width of another layer": ([*OLD, "x", "y"], ["sky"], "head has 5 outputs, but 7 old classes .* body has: if"),
    "an unknown class": (
        OLD,
        {"vehicle": ["car", "truk"]},
        "class 'truk' matches nothing. The nearest names are truck",
    ),
    "an old class twice": (["sky", *OLD[1:4], "sky"], ["sky"], "The old classes name 'sky' more than once"),
    "a new class twice": (OLD, ["sky", "sky"], "The new classes name 'sky' more than once"),
    "an old class in two": (OLD, {"a": "car", "b": ["car"]}, "that the new ones are made of name 'car' more than once"),
    "nothing known": (OLD, ["boat", "plane"], r"None of the new classes \(boat, plane\) is among the old ones"),
    "nothing at all": (OLD, [], r"None of the new classes \(none\)"),
    "one text": (OLD, "sky", "Classes are lists of names, not one text"),
    "numbers": (OLD, [0, 1], "Classes are named by text, not by 0"),
}


@pytest.mark.parametrize(("old", "new", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_names_are_refused_in_one_line(old: Any, new: Any, message: str, numbers: Draw) -> None:
    with pytest.raises(bridge.BridgeError, match=message) as error:
        adapt.classes(head(numbers, 7, 5), old, new)
    assert "\n" not in str(error.value)


def test_another_layer_than_the_last_is_adapted_only_where_it_is_named(numbers: Draw) -> None:
    source = head(numbers, 7, 5, **{"boxes/kernel": numbers(7, 4), "boxes/bias": numbers(4)})
    with pytest.raises(
        bridge.BridgeError, match=r"boxes has 4 outputs, but 5 old classes are named. head has: if that"
    ):
        adapt.classes(source, OLD, ["sky"])
    assert adapt.classes(source, OLD, ["sky"], layer="head").shapes["head/kernel"] == (7, 1)
    with pytest.raises(bridge.BridgeError, match=r"layer 'haed' matches nothing. The nearest names are head"):
        adapt.classes(source, OLD, ["sky"], layer="haed")


def test_what_has_no_rows_is_refused(numbers: Draw) -> None:
    up = bridge.apply.source_of({"head/kernel": numbers(2, 2, 5, 7), "head/bias": numbers(5)})
    assert adapt.classes(up, OLD, ["sky", "car"]).shapes["head/kernel"] == (2, 2, 2, 7)
    with pytest.raises(bridge.BridgeError, match="new classes have no place there"):
        adapt.classes(up, OLD, ["sky", "boat"])
    with pytest.raises(bridge.BridgeError, match="no convolution and no dense layer"):
        adapt.classes(bridge.apply.source_of({"bn/gamma": numbers(5)}), OLD, ["sky"])
    inputs = bridge.apply.source_of({"head/kernel": numbers(1, 1, 5, 7)})
    with pytest.raises(bridge.BridgeError, match="head has 7 outputs, but 5 old classes"):
        adapt.classes(inputs, OLD, ["sky"])
    once = adapt.classes(head(numbers, 7, 5), OLD, ["sky", "boat", "car"])
    with pytest.raises(bridge.BridgeError, match="head already has other classes"):
        adapt.classes(once, ["sky", "car"], ["car"])


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, str], tuple[Path, Path]]:
    def write(old: str, new: str) -> tuple[Path, Path]:
        paths = tmp_path / "old.txt", tmp_path / "new.txt"
        for path, text in zip(paths, (old, new), strict=True):
            path.write_bytes(text.encode())
        return paths

    return write


def test_classes_are_read_from_two_lists(files: Any) -> None:
    old, new = files(
        "sky\r\ncar\ntruck\nc++\na = b\nx + y\nbike\n\n",
        "sky\nvehicle = car + truck\n\nd = c++\na = b\nz = x + y\nbike =\nboat",
    )
    assert adapt.read_classes(old, new) == (
        ["sky", "car", "truck", "c++", "a = b", "x + y", "bike"],
        {
            "sky": ("sky",),
            "vehicle": ("car", "truck"),
            "d": ("c++",),
            "a = b": ("a = b",),
            "z": ("x + y",),
            "bike": (),
            "boat": (),
        },
    )


def test_lists_that_cannot_be_read_are_refused(files: Any, tmp_path: Path) -> None:
    old, new = files("sky\ncar", "sky\nsky = car")
    with pytest.raises(bridge.BridgeError, match=r"new\.txt names 'sky' more than once"):
        adapt.read_classes(old, new)
    with pytest.raises(bridge.BridgeError, match=r"none\.txt does not exist"):
        adapt.read_classes(old, tmp_path / "none.txt")
    new.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(bridge.BridgeError, match=r"new\.txt cannot be read"):
        adapt.read_classes(old, new)
    new.write_text("a" * (1 << 20) + "\n")
    with pytest.raises(bridge.BridgeError, match=r"new\.txt is longer than"):
        adapt.read_classes(old, new)
