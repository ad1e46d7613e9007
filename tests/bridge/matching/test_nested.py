"""Models in models, and over time: each layer finds its place, whatever a file or a module leaves out in between."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from torch import nn

import bridge


@pytest.fixture
def deep(keras: Any, randomised: Any) -> Any:
    """Two Dense layers in a model in a model."""
    layers = keras.layers
    x = inputs = layers.Input((4,))
    inner = keras.Model(inputs, layers.Dense(6, name="b")(layers.Dense(5, name="a")(x)), name="inner")
    inputs = layers.Input((4,))
    outer = keras.Model(inputs, inner(inputs), name="outer")
    return randomised(keras.Sequential([layers.Input((4,)), outer, layers.Dense(2, name="head")]))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_a_layer_of_a_model_in_a_model_is_found_though_an_h5_file_leaves_out_the_one_between(
    form: str, deep: Any, saved: Any, tmp_path: Path
) -> None:
    inner = tree(a=nn.Linear(4, 5), b=nn.Linear(5, 6))
    module = tree(outer=tree(inner=inner), head=nn.Linear(6, 2))
    plan = bridge.load(module, file_of(deep, form, saved, tmp_path))
    assert (plan.skipped, plan.untouched) == ((), ())
    x = torch.ones(2, 4)
    given = module.head(inner.b(inner.a(x)))
    np.testing.assert_allclose(given.detach(), deep(x.numpy()).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_two_layers_of_one_name_at_different_depths_are_not_guessed(deep: Any, saved: Any) -> None:
    module = tree(
        outer=tree(inner=tree(a=nn.Linear(4, 5), b=nn.Linear(5, 6)), other=tree(a=nn.Linear(4, 5))),
        head=nn.Linear(6, 2),
    )
    plan = bridge.match(bridge.read(saved(deep, weights_only=True)), module)
    assert plan.skipped == ("outer/a/kernel", "outer/a/bias")
    assert {name.partition(".")[0] for name in plan.untouched} == {"outer"}
    assert plan.copied["outer/b/kernel"].target == "outer.inner.b.weight"


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_a_model_over_time_goes_into_a_module_with_or_without_a_part_for_it(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    step = keras.Sequential(
        [layers.Input((6, 5, 2)), layers.Conv2D(3, 2, name="conv"), layers.BatchNormalization(name="norm")], name="step"
    )
    model = randomised(keras.Sequential([layers.Input((4, 6, 5, 2)), layers.TimeDistributed(step, name="over_time")]))
    path = file_of(model, form, saved, tmp_path)
    for folded in (True, False):
        conv, norm = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, eps=1e-3, momentum=0.01).eval()
        parts = tree(conv=conv, norm=norm)
        module = tree(over_time=parts if folded else tree(step=parts))
        plan = bridge.load(module, path)
        assert (plan.skipped, plan.untouched) == ((), ())
        assert bridge.verify(module, path).ok
        x = torch.randn(2, 4, 6, 5, 2)
        given = norm(conv(x.flatten(0, 1).movedim(-1, 1))).movedim(1, -1).unflatten(0, (2, 4))
        expected = model(x.numpy(), training=False).detach().numpy()
        np.testing.assert_allclose(given.detach(), expected, rtol=1e-4, atol=1e-5)


def test_what_a_layer_over_time_computes_is_read_from_the_file(keras: Any, randomised: Any, saved: Any) -> None:
    layers = keras.layers
    step = keras.Sequential([layers.Input((6, 3)), layers.LSTM(4, activation="relu", name="lstm")], name="step")
    model = randomised(keras.Sequential([layers.Input((5, 6, 3)), layers.TimeDistributed(step, name="over_time")]))
    path = saved(model)
    assert bridge.read(path).kinds["over_time/step/lstm"] == "LSTM"
    with pytest.raises(bridge.BridgeError, match="over_time/step/lstm computes with activation='relu'"):
        bridge.load(tree(over_time=tree(lstm=nn.LSTM(3, 4, batch_first=True))), path)


def test_a_converted_separable_convolution_over_time_finds_its_two_steps(
    keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((3, 6, 5, 4)), layers.TimeDistributed(layers.SeparableConv2D(5, 2, name="sep"), name="over_time")]
    )
    path, converted = saved(randomised(model)), tmp_path / "converted.safetensors"
    bridge.convert(path, converted)
    both = tree(depthwise=nn.Conv2d(4, 4, 2, groups=4, bias=False), pointwise=nn.Conv2d(4, 5, 1))
    module = tree(over_time=both)
    assert bridge.load(module, converted, strict=True).skipped == ()
    assert bridge.verify(module, path).ok


def test_a_nested_model_of_one_layer_is_found_though_the_file_may_speak_of_a_renamed_layer(
    written: Any, numbers: Any
) -> None:
    path = written({"top": {"fc/kernel:0": numbers(4, 5), "fc/bias:0": numbers(5)}})
    for module in (tree(top=tree(fc=nn.Linear(4, 5))), tree(top=nn.Linear(4, 5))):
        assert bridge.load(module, path, strict=True).skipped == ()
    with pytest.raises(bridge.BridgeError, match="has nothing for Module"):
        bridge.load(tree(top=tree(fc=nn.Linear(4, 5), out=nn.Linear(4, 5))), path)


def test_a_dot_in_a_keras_name_is_a_part_of_a_module(written: Any, numbers: Any) -> None:
    path = written({"stage.1": {"conv.a/kernel:0": numbers(3, 3, 2, 4), "conv.b/kernel:0": numbers(3, 3, 4, 2)}})
    inner = nn.ModuleDict({"a": nn.Conv2d(2, 4, 3, bias=False), "b": nn.Conv2d(4, 2, 3, bias=False)})
    plan = bridge.load(tree(stage=nn.ModuleDict({"1": tree(conv=inner)})), path, strict=True)
    assert [copy.target for copy in plan.copied.values()] == ["stage.1.conv.a.weight", "stage.1.conv.b.weight"]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", ["whole", ".weights.h5", ".keras"])
def test_layers_of_one_name_four_deep_are_those_of_the_configuration(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    inputs = layers.Input((4,))
    first = keras.Model(inputs, layers.Dense(5, name="fc")(inputs), name="first")
    second = keras.Sequential([layers.Input((5,)), layers.Dense(5, name="fc")], name="second")
    inputs = layers.Input((4,))
    both = keras.Model(inputs, layers.Dense(6, name="last")(second(first(inputs))), name="both")
    outer = keras.Sequential([layers.Input((4,)), both, layers.Dense(6, name="fc")], name="outer")
    model = randomised(keras.Sequential([layers.Input((4,)), outer, layers.Dense(2, name="fc")]))
    parts = tree(first=tree(fc=nn.Linear(4, 5)), second=tree(fc=nn.Linear(5, 5)), last=nn.Linear(5, 6))
    module = tree(outer=tree(both=parts, fc=nn.Linear(6, 6)), fc=nn.Linear(6, 2))
    path = file_of(model, form, saved, tmp_path)
    assert bridge.load(module, path, strict=True).skipped == ()
    x = torch.randn(2, 4)
    given = module.fc(module.outer.fc(parts.last(parts.second.fc(parts.first.fc(x)))))
    np.testing.assert_allclose(given.detach(), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)
    back = bridge.save(module, tmp_path / f"back{'.h5' if form == 'whole' else form}", like=path)
    assert {key: array.tolist() for key, array in bridge.read(back).items()} == {
        key: array.tolist() for key, array in bridge.read(path).items()
    }


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_both_directions_over_time_go_into_a_module_with_or_without_a_part_for_them(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(6, name="words"), name="both")
    model = randomised(keras.Sequential([layers.Input((3, 5, 4)), layers.TimeDistributed(both, name="over_time")]))
    path, converted = file_of(model, form, saved, tmp_path), tmp_path / "converted.safetensors"
    bridge.convert(path, converted)
    x = torch.randn(2, 3, 5, 4)
    for folded in (True, False):
        words = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        module = tree(over_time=words if folded else tree(both=words))
        for each in (path, converted):
            assert bridge.load(module, each, strict=True).skipped == ()
            assert bridge.verify(module, each).ok
        with torch.inference_mode():
            last = words(x.flatten(0, 1))[1][0]
        given = torch.cat([last[0], last[1]], -1).unflatten(0, (2, 3))
        np.testing.assert_allclose(given, model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)
