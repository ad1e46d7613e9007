"""One architecture of two sessions: Keras numbers its layers on, and every way of its weights still finds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


class Reader(nn.Module):
    """Convolutions, both directions in one module, a model in the model, as a fresh session names them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d, self.conv1d_1 = nn.Conv1d(4, 5, 2), nn.Conv1d(5, 5, 2)
        self.bidirectional = nn.LSTM(5, 3, batch_first=True, bidirectional=True)
        self.sequential = nn.ModuleDict({"dense": nn.Linear(6, 6), "dense_1": nn.Linear(6, 4)})
        self.dense = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Steps (N, T, C) to (N, T - 2, 2)."""
        x = self.conv1d_1(self.conv1d(x.movedim(-1, 1))).movedim(1, -1)
        x = self.bidirectional(x)[0]
        return self.dense(self.sequential["dense_1"](self.sequential["dense"](x)))


def session(keras: Any, randomised: Any, seed: int) -> Any:
    """The model, its layers numbered from where the session is."""
    layers = keras.layers
    inner = keras.Sequential([layers.Input((6, 6)), layers.Dense(6), layers.Dense(4)])
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    steps = [layers.Conv1D(5, 2), layers.Conv1D(5, 2), both, inner, layers.Dense(2)]
    return randomised(keras.Sequential([layers.Input((8, 4)), *steps]), seed)


def assert_computes_the_same(model: Any, module: nn.Module) -> None:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 8, 4)).astype(np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(module(x), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def sessions(keras: Any, randomised: Any) -> tuple[Any, Any]:
    first, second = session(keras, randomised, 1), session(keras, randomised, 2)
    assert not {layer.name for layer in first.layers} & {layer.name for layer in second.layers}
    return first, second


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_a_later_session_finds_its_places_from_its_own_file_and_from_what_it_was_converted_to(
    ending: str, sessions: Any, saved: Any, tmp_path: Path
) -> None:
    model = sessions[1]
    original = saved(model, f"second{ending}")
    for converted in ("second.safetensors", "second.pt"):
        bridge.convert(original, tmp_path / converted)
    for path in (original, tmp_path / "second.safetensors", tmp_path / "second.pt"):
        module = Reader()
        bridge.load(module, path, strict=True)
        assert_computes_the_same(model, module)
        assert bridge.verify(module, path).ok


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("through", ["second.keras", "second.safetensors"])
def test_one_session_is_written_like_the_file_of_another(
    through: str, ending: str, sessions: Any, saved: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    first, second = sessions
    like, given, written = tmp_path / f"first{ending}", tmp_path / through, tmp_path / f"written{ending}"
    first.save_weights(like) if ending == ".weights.h5" else saved(first, like.name, weights_only=ending == ".h5")
    saved(second, "second.keras")
    if given.suffix == ".safetensors":
        bridge.convert(tmp_path / "second.keras", given)
    answer = bridge_cli("convert", given, written, "--like", like)
    assert (answer.code, answer.err) == (0, "")
    first.load_weights(written)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one.value.detach(), other.value.detach())


def test_a_place_that_nothing_has_is_said_of_the_file(
    keras: Any, randomised: Any, saved: Any, refused: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    for name, width in (("given", 3), ("like", 2)):
        steps = [layers.Dense(width, name="fc")] + [layers.Dense(2, name="out")] * (name == "like")
        saved(randomised(keras.Sequential([layers.Input((4,)), *steps])), f"{name}.keras")
    said = refused("convert", tmp_path / "given.keras", tmp_path / "back.keras", "--like", tmp_path / "like.keras")
    assert "given.keras has no out.weight, which like.keras holds" in said
