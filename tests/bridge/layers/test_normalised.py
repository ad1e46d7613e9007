"""A normalisation over other axes than the last: weights in the module's order of axes, or a note that none fits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import file_of
from torch import Tensor, nn

import bridge
from bridge.reference import compute

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


@dataclass(frozen=True)
class Case:
    """An input in Keras, the axes, the shape of torch's layer, and how that runs on Keras's inputs."""

    given: tuple[int, ...]
    axis: tuple[int, int]
    shape: tuple[int, int]
    run: Callable[[nn.Module, Tensor], Tensor]
    first: bool = False


CASES = {
    "steps and channels": Case((6, 4), (1, 2), (6, 4), lambda norm, x: norm(x)),
    "channels first": Case((6, 4), (1, 2), (4, 6), lambda norm, x: last(norm(first(x))), first=True),
    "as many steps as channels": Case((4, 4), (1, 2), (4, 4), lambda norm, x: last(norm(first(x))), first=True),
    "a map without its channels": Case((5, 6, 4), (1, 2), (5, 6), lambda norm, x: last(norm(first(x)))),
    "a square map without its channels": Case((5, 5, 4), (-3, -2), (5, 5), lambda norm, x: last(norm(first(x)))),
    "columns and channels": Case((5, 6, 4), (2, 3), (6, 4), lambda norm, x: norm(x)),
    "as many columns as channels": Case((5, 4, 4), (2, 3), (4, 4), lambda norm, x: norm(x)),
}


class Holder(nn.Module):
    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape, eps=1e-3)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {key.rpartition("/")[2]: array for key, array in bridge.read(path).items()}


@pytest.fixture
def keras_file(keras: Any, randomised: Any, saved: Any) -> Callable[..., Path]:
    """A file of the one layer; the reference computes it, for Keras on PyTorch can do so over the last axes only."""

    def write(case: Case, form: str) -> Path:
        norm = keras.layers.LayerNormalization(axis=list(case.axis), name="norm")
        model = randomised(keras.Sequential([keras.layers.Input(case.given), norm]))
        path: Path = saved(model, "model.keras" if form == ".keras" else "model.h5", weights_only=form == "weights")
        return path

    return write


@pytest.mark.parametrize("form", ["weights", "whole", ".keras"])
@pytest.mark.parametrize("name", CASES)
def test_a_normalisation_over_two_axes_computes_what_it_computes_in_keras(
    name: str, form: str, keras_file: Any, tmp_path: Path
) -> None:
    case = CASES[name]
    path, module = keras_file(case, form), Holder(case.shape)
    plan = bridge.load(module, path, strict=True)
    undecided = len(set(case.shape)) == 1 and (form == "weights" or name == "as many steps as channels")
    assert bool(plan.ambiguous) == undecided
    assert any("nothing tells whether channels come first" in note for note in plan.notes) == undecided
    report = bridge.verify(module, path)
    assert report.ok, report
    assert not report.not_proved
    if case.first or not undecided:
        x = torch.randn(3, *case.given)
        expected = compute("LayerNormalization", x.numpy(), weights_of(path), {"axis": list(case.axis)})
        with torch.inference_mode():
            np.testing.assert_allclose(case.run(module.norm, x), expected, rtol=1e-4, atol=1e-5)
    back = bridge.save(module, tmp_path / f"back{path.suffix}", like=path)
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(bridge.read(back)[key], array)
    with torch.no_grad():
        module.norm.weight.copy_(module.norm.weight.T.reshape(case.shape).clone())
    assert not bridge.verify(module, path).ok


@pytest.mark.parametrize("form", ["whole", ".keras"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "steps and channels"])
def test_converted_first_it_goes_to_the_same_place_and_back(
    name: str, form: str, keras_file: Any, tmp_path: Path
) -> None:
    path, converted = keras_file(CASES[name], form), tmp_path / "norm.safetensors"
    bridge.convert(path, converted)
    module, other = Holder(CASES[name].shape), Holder(CASES[name].shape)
    bridge.load(module, path)
    bridge.load(other, converted, strict=True)
    assert torch.equal(module.norm.weight, other.norm.weight)
    bridge.convert(converted, tmp_path / f"back{path.suffix}", like=path)
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(bridge.read(tmp_path / f"back{path.suffix}")[key], array)


@pytest.mark.parametrize("form", ["weights", ".keras"])
def test_a_converted_file_says_where_it_has_taken_the_channels_first(
    form: str, keras_file: Any, tmp_path: Path
) -> None:
    for name, said in (("channels first", True), ("a map without its channels", form == "weights")):
        notes = bridge.convert(keras_file(CASES[name], form), tmp_path / "norm.safetensors").notes
        assert any(note.startswith("norm: normalised over steps and channels") for note in notes) == said


def test_a_map_without_its_channels_is_not_turned_to_fit(keras_file: Any) -> None:
    path = keras_file(CASES["a map without its channels"], ".keras")
    with pytest.raises(bridge.BridgeError, match=r"norm/gamma is \(5, 6\) in Keras order, .* norm.weight is \(6, 5\)"):
        bridge.load(Holder((6, 5)), path)


@pytest.mark.parametrize("form", ["whole", "weights", ".keras"])
@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_rows_that_are_normalised_in_the_place_of_channels_are_noted(
    form: str, axis: int, keras: Any, randomised: Any, saved: Any, tmp_path: Any
) -> None:
    """The numbers fit, as the map is as high and as wide as it has channels."""
    layers = keras.layers
    conv = layers.Conv2D(4, 3, name="conv")
    model = randomised(keras.Sequential([layers.Input((6, 6, 2)), conv, layers.BatchNormalization(axis, name="bn")]))
    module = nn.ModuleDict({"conv": nn.Conv2d(2, 4, 3), "bn": nn.BatchNorm2d(4, eps=1e-3, momentum=0.01)})
    plan = bridge.load(module, file_of(model, form, saved, tmp_path), strict=True)
    wrong = axis in (1, 2, -2, -3) and form != "weights"
    assert [f"along axis {axis % 4} of 4: right only where" in note for note in plan.notes if "bn" in note] == [
        True
    ] * wrong
