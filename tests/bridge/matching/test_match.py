"""What goes where is decided by names and shapes, is said by name, and is refused where it is not certain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge

Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


def vgg(prefix: str = "") -> list[tuple[str, nn.Module]]:
    return [
        (f"{prefix}block1_conv1", nn.Conv2d(3, 4, 3)),
        (f"{prefix}bn", nn.BatchNorm2d(4, eps=1e-3)),
        (f"{prefix}block1_conv2", nn.Conv2d(4, 6, 3)),
    ]


@pytest.fixture
def file(written: Write, numbers: Draw) -> Path:
    """Two convolutions, a normalisation between them, and a head that no module here has."""
    layers = {
        "block1_conv1": {"kernel": numbers(3, 3, 3, 4), "bias": numbers(4)},
        "bn": {role: numbers(4, seed=seed) for seed, role in enumerate(ROLES)},
        "block1_conv2": {"kernel": numbers(3, 3, 4, 6, seed=5), "bias": numbers(6, seed=6)},
        "predictions": {"kernel": numbers(6, 2)},
    }
    return written(layers, keras_version="2.2.4", backend="tensorflow")


ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
COPIED = [
    ("block1_conv1/kernel", "block1_conv1.weight"),
    ("block1_conv1/bias", "block1_conv1.bias"),
    ("bn/gamma", "bn.weight"),
    ("bn/beta", "bn.bias"),
    ("bn/moving_mean", "bn.running_mean"),
    ("bn/moving_variance", "bn.running_var"),
    ("block1_conv2/kernel", "block1_conv2.weight"),
    ("block1_conv2/bias", "block1_conv2.bias"),
]


def pairs(plan: bridge.Plan, part: str = "") -> list[tuple[str, str]]:
    return [(copy.source, copy.target.removeprefix(part)) for copy in plan.copied.values()]


def test_a_plan_accounts_for_every_tensor_on_both_sides(file: Path, chain: Any) -> None:
    module = chain(*vgg(), ("head", nn.Linear(6, 2)))
    plan = bridge.match(bridge.read(file), module)
    assert pairs(plan) == COPIED
    assert plan.skipped == ("predictions/kernel",)
    assert plan.reasons["predictions/kernel"] == "the module has no layer predictions"
    assert plan.untouched == ("head.weight", "head.bias")
    assert plan.reasons["head.weight"] == "the source has no head/kernel"
    assert plan.copied["block1_conv1/kernel"].from_shape == (3, 3, 3, 4)
    assert plan.copied["block1_conv1/kernel"].to_shape == (4, 3, 3, 3)


def test_a_plan_moves_nothing_and_reads_no_numbers(file: Path, chain: Any, unchanged: Any) -> None:
    module, source = chain(*vgg()), bridge.read(file)
    same = unchanged(module)
    file.unlink()
    assert len(bridge.match(source, module).copied) == 8
    assert same()


def test_a_plan_is_json(file: Path, chain: Any) -> None:
    plan = bridge.match(bridge.read(file), chain(*vgg(), ("head", nn.Linear(6, 2))))
    given = json.loads(json.dumps(plan.to_dict()))
    assert given["source"] == "made.h5"
    assert given["copied"][0] == {
        "source": "block1_conv1/kernel",
        "target": "block1_conv1.weight",
        "transform": "axes (3, 2, 0, 1)",
        "from_shape": [3, 3, 3, 4],
        "to_shape": [4, 3, 3, 3],
        "rows": None,
        "ambiguous": True,
    }
    assert given["skipped"] == [{"source": "predictions/kernel", "reason": "the module has no layer predictions"}]
    assert [entry["target"] for entry in given["untouched"]] == ["head.weight", "head.bias"]


def test_a_printed_plan_is_a_table(file: Path, chain: Any) -> None:
    lines = str(bridge.match(bridge.read(file), chain(*vgg(), ("head", nn.Linear(6, 2))))).splitlines()
    assert lines[0] == "made.h5 -> Chain: 8 copied, 1 skipped, 2 untouched"
    heading, first = lines[1], lines[2]
    assert heading.split() == ["copied", "from", "Keras", "order", "to", "shape", "how"]
    assert first.split("  ")[0] == "block1_conv1/kernel"
    columns = [heading.index(word) for word in ("Keras order", " to ", "shape", "how")]
    assert [first[column:].split()[0] for column in columns] == ["[3,", "block1_conv1.weight", "[4,", "axes"]
    assert any(line.startswith("predictions/kernel") and "has no layer" in line for line in lines)
    assert any(line.startswith("head.weight") and "the source has no" in line for line in lines)


def test_a_momentum_that_is_not_that_of_the_file_is_noted_once_for_all_layers(
    keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    model = keras.Sequential(
        [keras.layers.Input((4, 4, 3)), *(keras.layers.BatchNormalization(name=f"bn{i}") for i in range(3))]
    )
    module = chain(*((f"bn{i}", nn.BatchNorm2d(3, eps=1e-3)) for i in range(3)))
    plan = bridge.match(bridge.read(saved(randomised(model))), module)
    said = "bn0 and 2 more have momentum=0.1; the file's is 0.01 as PyTorch counts it: only training differs."
    assert plan.notes == (said,)


def test_a_kernel_whose_axes_would_fit_otherwise_is_marked_until_it_is_proved(
    written: Write, numbers: Draw, chain: Any
) -> None:
    source = bridge.read(written({"a": {"kernel": numbers(3, 2, 4, 5)}, "b": {"kernel": numbers(3, 3, 5, 5)}}))
    plan = bridge.match(source, chain(("a", nn.Conv2d(4, 5, (3, 2))), ("b", nn.Conv2d(5, 5, 3))))
    assert plan.ambiguous == ("b/kernel",)
    assert next(line for line in str(plan).splitlines() if line.startswith("b/kernel")).endswith(" *")


@pytest.mark.parametrize("prefix", ["encoder", "encoder.", "deep.encoder", "deep.encoder."])
def test_a_prefix_names_the_part_that_the_file_describes(prefix: str, file: Path, chain: Any) -> None:
    part = f"{prefix.rstrip('.')}."
    plan = bridge.match(bridge.read(file), chain(*vgg(part), ("head", nn.Linear(6, 2))), prefix=prefix)
    assert pairs(plan, part) == COPIED
    assert all(copy.target.startswith(part) for copy in plan.copied.values())
    assert plan.untouched == ()  # what is outside the part is none of the file's business


def test_a_prefix_that_is_not_there_is_refused_with_the_nearest(file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match=r"has no part 'encodr'; it has encoder"):
        bridge.match(bridge.read(file), chain(*vgg("encoder.")), prefix="encodr")


RENAMES: dict[str, Any] = {
    "a dict": {"block1_conv1": "a", "block1_conv2": "b.c", "bn": "n"},
    "pairs": [("block1_conv1", "a"), ("block1_conv2", "b/c"), ("bn", "n")],
    "globs": {"block1_conv*": "b.c*", "b.c1": "a", "b/c2": "b.c", "*n": "n"},
    "regular expressions": [(r"block1_conv(1)", "a"), (r"block\d_conv(?P<k>2)", "b/c"), (r"b(n)", r"\1")],
    "whole keys": [("block1_conv1/kernel", "a/kernel"), ("block1_conv1/bias", "a/bias"), ("b*2", "b/c"), ("bn", "n")],
}


@pytest.mark.parametrize("rename", RENAMES.values(), ids=RENAMES.keys())
def test_rename_pairs_other_names(rename: Any, file: Path, chain: Any) -> None:
    given = json.dumps(rename)
    module = chain(("a", nn.Conv2d(3, 4, 3)), ("n", nn.BatchNorm2d(4, eps=1e-3)), ("b.c", nn.Conv2d(4, 6, 3)))
    plan = bridge.match(bridge.read(file), module, rename=rename)
    names = {"block1_conv1": "a", "bn": "n", "block1_conv2": "b.c"}
    expected = [(key, f"{names[target.split('.')[0]]}.{target.split('.')[1]}") for key, target in COPIED]
    assert pairs(plan) == expected
    assert plan.skipped == ("predictions/kernel",)
    assert json.dumps(rename) == given  # a caller's rules are never changed


@pytest.mark.parametrize("rename", [{"block1_conv(": "a"}, {r"(block1)_conv1": r"\2"}, {r"(b)n": r"\g<x>"}])
def test_a_rule_that_is_no_expression_is_refused(rename: dict[str, str], file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match="is not a regular expression"):
        bridge.match(bridge.read(file), chain(*vgg()), rename=rename)


def test_an_exact_name_is_itself_whatever_signs_are_in_it(numbers: Draw, written: Write, chain: Any) -> None:
    weights = {"kernel": numbers(2, 2, 3, 4), "bias": numbers(4)}
    layers = {name: {f"{name}/{role}:0": array for role, array in weights.items()} for name in ("a[1]", "b (2)", "c")}
    source, parts = bridge.read(written(layers)), [(name, nn.Conv2d(3, 4, 2)) for name in ("x", "y", "z")]
    plan = bridge.match(source, chain(*parts), rename={"a[1]": "x", "b (2)": "y", "c": "z"})
    assert [copy.target for copy in plan.copied.values()] == [f"{x}.{w}" for x in "xyz" for w in ("weight", "bias")]
    plan = bridge.match(source, chain(*parts[:2]), rename={"b (2)": "x", "c": "y"}, skip=["a[1]"], strict=False)
    assert plan.skipped == ("a[1]/kernel", "a[1]/bias")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"rename": "block1_conv1"}, r"rename is 'block1_conv1', but should be a mapping or pairs"),
        ({"rename": ["block1_conv1"]}, r"rename is \['block1_conv1'\], but should be a mapping or pairs"),
        ({"rename": {"block1_conv1": ""}}, r"rename gives 'block1_conv1' no name\. Leave a layer out with skip"),
        ({"flatten": {"predictions": 6}}, r"flatten says 6 of predictions, but should say \(height, width, channels\)"),
        ({"unflatten": {"predictions": (-2, -1, 3)}}, r"unflatten says \(-2, -1, 3\) of predictions, but should say"),
        ({"flatten": [6, 6, 4]}, r"flatten is \[6, 6, 4\], but should be maps by layer"),
        ({"flip_input": "no"}, r"flip_input is 'no', but should be True or False"),
        ({"in_channels": "3"}, r"in_channels is '3', but should be a number"),
        ({"unflatten": {"predictions": "2x3"}}, r"unflatten says '2x3' of predictions, but should say"),
        ({"classes": (["a", "b"],)}, r"but should be the old names and the new ones"),
    ],
    ids=str,
)
def test_options_of_another_form_are_refused(choices: Any, message: str, file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match=message):
        bridge.match(bridge.read(file), chain(*vgg()), **choices)


SKIPS = {
    "a layer": ("bn", "bn/gamma bn/beta bn/moving_mean bn/moving_variance"),
    "a key": ("bn/gamma", "bn/gamma"),
    "a target": ("bn.weight", "bn/gamma"),
    "a glob over layers": ("block*", "block1_conv1/kernel block1_conv1/bias block1_conv2/kernel block1_conv2/bias"),
    "a glob over keys": ("*/bias", "block1_conv1/bias block1_conv2/bias"),
    "a glob over targets": ("*.running_*", "bn/moving_mean bn/moving_variance"),
}


@pytest.mark.parametrize(("pattern", "keys"), SKIPS.values(), ids=SKIPS.keys())
def test_skip_leaves_out_by_layer_key_or_target(pattern: str, keys: str, file: Path, chain: Any) -> None:
    plan = bridge.match(bridge.read(file), chain(*vgg()), skip=pattern)
    assert [key for key in plan.skipped if plan.reasons[key] == "left out by skip"] == keys.split()
    assert pairs(plan) == [pair for pair in COPIED if pair[0] not in keys.split()]
    assert set(plan.untouched) == {target for key, target in COPIED if key in keys.split()}
    assert plan.to_dict() == bridge.match(bridge.read(file), chain(*vgg()), skip=[pattern]).to_dict()


def test_skip_keeps_what_would_not_fit(file: Path, chain: Any) -> None:
    module = chain(("block1_conv1", nn.Conv2d(3, 4, 3)), ("block1_conv2", nn.Conv2d(4, 7, 3)))
    plan = bridge.match(bridge.read(file), module, skip="block1_conv2")
    assert plan.untouched == ("block1_conv2.weight", "block1_conv2.bias")


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("skip", "block1_conv3", "block1_conv2"),
        ("skip", ["bn", "block1_conv3"], "block1_conv2"),
        ("rename", {"predictons": "head"}, "predictions"),
        ("rename", [("bm", "n")], "bn"),
        ("rename", {"zzz*": "n"}, "block1_conv1"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(
    option: str, value: Any, near: str, file: Path, chain: Any
) -> None:
    with pytest.raises(bridge.BridgeError, match=f"{option} .* matches nothing.*{near}"):
        bridge.match(bridge.read(file), chain(*vgg()), **{option: value})


def test_strict_refuses_what_is_left_over_on_either_side(file: Path, chain: Any) -> None:
    exact = chain(*vgg(), ("predictions", nn.Linear(6, 2, bias=False)))
    assert len(bridge.match(bridge.read(file), exact, strict=True).copied) == 9
    with pytest.raises(bridge.BridgeError, match=r"made\.h5: strict, but 1 tensors are skipped.*predictions/kernel"):
        bridge.match(bridge.read(file), chain(*vgg()), strict=True)
    more = chain(*vgg(), ("predictions", nn.Linear(6, 2, bias=False)), ("extra", nn.Linear(1, 1, bias=False)))
    with pytest.raises(bridge.BridgeError, match=r"strict.* 1 parameters untouched, first extra\.weight"):
        bridge.match(bridge.read(file), more, strict=True)


def test_a_shape_that_does_not_fit_names_both_sides_and_the_file(file: Path, chain: Any) -> None:
    module = chain(("block1_conv1", nn.Conv2d(3, 4, 3)), ("block1_conv2", nn.Conv2d(4, 7, 3)))
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.match(bridge.read(file), module)
    assert str(caught.value) == (
        "made.h5: block1_conv2/kernel is (3, 3, 4, 6) in Keras order, (6, 4, 3, 3) in PyTorch order, but "
        "block1_conv2.weight is (7, 4, 3, 3). Build the module with that shape, or keep its initial value with "
        "skip 'block1_conv2'. 1 more do not fit."
    )


def test_nothing_is_reshaped_to_fit(written: Write, numbers: Draw, chain: Any) -> None:
    """A kernel the other way round or with as many numbers would fit by force; a 1 x 1 convolution just fits."""
    source = bridge.read(written({"fc": {"kernel": numbers(6, 2)}}))
    assert bridge.match(source, chain(("fc", nn.Conv2d(6, 2, 1, bias=False)))).copied["fc/kernel"].to_shape == (
        2,
        6,
        1,
        1,
    )
    for layer in (nn.Linear(2, 6), nn.Conv2d(3, 2, (1, 2)), nn.Linear(12, 1)):
        with pytest.raises(bridge.BridgeError, match=r"fc/kernel is \(6, 2\)"):
            bridge.match(source, chain(("fc", layer)))


def test_nothing_in_common_names_both_sides(file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.match(bridge.read(file), chain(("other", nn.Conv2d(3, 4, 3)), ("part.head", nn.Linear(2, 2))))
    text = str(caught.value)
    assert text.startswith("made.h5 has nothing for Chain: the source holds block1_conv1, bn, block1_conv2")
    assert "the module has other, part.head" in text


def test_nothing_in_common_at_the_top_suggests_the_part_that_has_the_names(file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match=r"Try prefix='deep\.encoder'"):
        bridge.match(bridge.read(file), chain(*vgg("deep.encoder.")))


def test_two_layers_for_one_place_are_refused(file: Path, chain: Any) -> None:
    module = chain(("conv", nn.Conv2d(3, 4, 3)))
    with pytest.raises(
        bridge.BridgeError, match=r"block1_conv2/kernel and block1_conv1/kernel both go to conv\.weight"
    ):
        bridge.match(bridge.read(file), module, rename={"block1_conv*": "conv"})


def test_a_weight_the_module_has_no_room_for_is_skipped_by_name(file: Path, chain: Any) -> None:
    module = chain(
        ("block1_conv1", nn.Conv2d(3, 4, 3, bias=False)),
        ("bn", nn.BatchNorm2d(4, eps=1e-3, affine=False)),
        ("block1_conv2", nn.Conv2d(4, 6, 3)),
    )
    plan = bridge.match(bridge.read(file), module)
    assert plan.skipped == ("block1_conv1/bias", "bn/gamma", "bn/beta", "predictions/kernel")
    assert plan.reasons["block1_conv1/bias"] == "the module's block1_conv1 takes no bias"


def test_a_layer_kind_that_is_not_known_is_said_so(file: Path, chain: Any) -> None:
    plan = bridge.match(bridge.read(file), chain(*vgg(), ("mix", nn.Bilinear(3, 2, 4))))
    assert plan.untouched == ("mix.weight", "mix.bias")
    assert plan.reasons["mix.weight"] == "no Keras layer kind is known for it"


def test_a_layer_kind_that_is_not_known_is_said_so_where_it_is_alone(
    keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    model = keras.Sequential([keras.layers.Input((5, 4)), keras.layers.RMSNormalization(name="norm")])
    for path in (saved(randomised(model)), saved(model, "norm.keras")):
        with pytest.raises(bridge.BridgeError) as error:
            bridge.load(chain(("norm", nn.RMSNorm(4))), path)
        assert f"{path.name}: norm is RMSNormalization with scale, which is not known here" in str(error.value)
        assert "rename" not in str(error.value)


def test_a_module_of_a_kind_that_is_not_known_is_said_so(keras: Any, randomised: Any, saved: Any, chain: Any) -> None:
    path = saved(randomised(keras.Sequential([keras.layers.Input((5, 4)), keras.layers.LSTM(3, name="words")])))
    with pytest.raises(bridge.BridgeError, match=r"words has its place by name, but words is a LSTMCell, a kind of"):
        bridge.load(chain(("words", nn.LSTMCell(4, 3))), path)


def numbered(numbers: Draw, conv: list[str], bn: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Pairs of a convolution and a normalisation, each with other numbers."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for index, (first, second) in enumerate(zip(conv, bn, strict=True)):
        layers[first] = {"kernel": numbers(3, 3, 4, 4, seed=index), "bias": numbers(4, seed=20 + index)}
        layers[second] = {role: numbers(4, seed=40 + 5 * index + k) for k, role in enumerate(ROLES)}
    return layers


def auto(prefix: str, *ranks: int) -> list[str]:
    return [f"{prefix}_{rank}" if rank else prefix for rank in ranks]


NUMBERINGS = {
    "a fresh Keras 3 session": (auto("conv2d", *range(12)), auto("batch_normalization", *range(12))),
    "Keras 2": (auto("conv2d", *range(1, 13)), auto("batch_normalization", *range(1, 13))),
    "late in a session": (auto("conv2d", *range(95, 107)), auto("batch_normalization", *range(7, 19))),
    "Keras 1": (auto("convolution2d", *range(4, 16)), auto("batchnormalization", *range(9, 21))),
    "not in order": (
        auto("conv2d", 1, 2, 10, 11, 12, 3, 4, 5, 9, 8, 7, 6),
        auto("batch_normalization", 4, 5, 6, 7, 3, 2, 1, 12, 11, 10, 9, 8),
    ),
}


@pytest.mark.parametrize("declares", [False, True], ids=["by attribute", "declared"])
@pytest.mark.parametrize(("conv", "bn"), NUMBERINGS.values(), ids=NUMBERINGS.keys())
def test_layers_numbered_by_keras_are_paired_by_their_place_in_the_model(
    conv: list[str], bn: list[str], declares: bool, written: Write, numbers: Draw, chain: Any
) -> None:
    ours = list(zip(auto("conv2d", *range(12)), auto("batch_normalization", *range(12)), strict=True))
    steps = [(f"part.{c}" if declares else c, nn.Conv2d(4, 4, 3)) for c, _ in ours]
    norms = [(f"part.{b}" if declares else b, nn.BatchNorm2d(4, eps=1e-3)) for _, b in ours]
    module = chain(*(step for pair in zip(steps, norms, strict=True) for step in pair))
    if declares:
        module.keras_layers = {name: name.removeprefix("part.") for name, _ in steps + norms}
    if conv == NUMBERINGS["not in order"][0] and not declares:
        conv, bn = [f"conv2d_{20 + int(name[7:])}" for name in conv], [f"{name}0" for name in bn]
    plan = bridge.load(module, written(numbered(numbers, conv, bn)), strict=True)
    assert len(plan.copied) == 72
    for index in range(12):
        kernel = torch.from_numpy(numbers(3, 3, 4, 4, seed=index)).permute(3, 2, 0, 1)
        assert torch.equal(steps[index][1].weight, kernel), index
        assert torch.equal(norms[index][1].weight, torch.from_numpy(numbers(4, seed=40 + 5 * index))), index


def test_a_name_that_both_sides_have_is_that_layer_whatever_its_place(
    written: Write, numbers: Draw, chain: Any
) -> None:
    """The same numbers in another order: names decide, as the module names its layers itself."""
    path = written({name: {"kernel": numbers(2, 2, seed=seed)} for seed, name in enumerate(("dense_4", "dense_3"))})
    module = chain(("dense_3", nn.Linear(2, 2, bias=False)), ("dense_4", nn.Linear(2, 2, bias=False)))
    bridge.load(module, path)
    assert torch.equal(module.dense_4.weight, torch.from_numpy(numbers(2, 2, seed=0)).T)
    assert torch.equal(module.dense_3.weight, torch.from_numpy(numbers(2, 2, seed=1)).T)


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_an_epsilon_that_is_not_that_of_the_file_is_noted(
    eps: float, keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Input((4, 4, 3)), layers.BatchNormalization(epsilon=2e-4, name="bn")])
    module = chain(("bn", nn.BatchNorm2d(3, eps=eps, momentum=0.01)))
    whole = bridge.match(bridge.read(saved(randomised(model))), module)
    assert whole.notes == (f"bn has eps={eps:g}, the file epsilon=0.0002: outputs differ until it is set.",)
    bare = bridge.match(bridge.read(saved(model, weights_only=True)), module)
    said = f"bn has eps={eps:g}; Keras's default is 0.001 and this file does not say."
    assert bare.notes == (() if eps == 1e-3 else (said,))
    assert all(note in str(bare) for note in bare.notes)


def test_an_unknown_scheme_is_refused_with_the_list(file: Path, chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match="no naming scheme 'mxnet'; there are keras, torchvision"):
        bridge.match(bridge.read(file), chain(*vgg()), names="mxnet")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda each: torch.jit.trace(each, torch.zeros(1, 3, 9, 9))])
def test_a_scripted_module_says_to_load_the_one_it_was_made_of(compiled: Any, file: Path) -> None:
    made = compiled(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(bridge.BridgeError, match=r"is a scripted or traced module.*Load into the module that it was"):
        bridge.match(bridge.read(file), made, by="order")


def test_a_module_that_has_not_run_once_says_so(file: Path) -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block1_conv1 = nn.LazyConv2d(4, 3)

    with pytest.raises(bridge.BridgeError, match=r"block1_conv1\.weight has no shape yet\. Run the module once"):
        bridge.match(bridge.read(file), Lazy())
