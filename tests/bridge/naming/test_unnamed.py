"""A head that Keras named by itself finds the place of a published network's head, where nothing else could."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bridge

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
FORMS = ("w.keras", "w.h5", "w.weights.h5")


class Published(nn.Module):
    """Names its layers as a published network's are, the head among them."""

    keras_layers: ClassVar[Mapping[str, str]] = {"conv": "block1_conv1", "top.0": "fc1", "top.1": "predictions"}

    def __init__(self, hidden: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.top = nn.Sequential(nn.Linear(4, hidden), nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.top[1](self.top[0](self.conv(x).mean((2, 3))).relu())
        return logits


def tuned(*head: Any, conv: str = "block1_conv1") -> Any:
    """A Keras network with this head; the session has had Dense layers before."""
    keras.layers.Dense(2)
    model = keras.Sequential(
        [keras.Input((8, 7, 3)), keras.layers.Conv2D(4, 3, name=conv), keras.layers.GlobalAveragePooling2D(), *head]
    )
    numbers = np.random.default_rng(0)
    model.set_weights([numbers.normal(size=each.shape).astype("float32") for each in model.get_weights()])
    return model


def saved(model: Any, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def dense(units: int, **options: Any) -> Any:
    return keras.layers.Dense(units, **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fc1", [{}, {"name": "fc1"}], ids=["no names", "a name for one"])
def test_dense_layers_without_names_are_the_head(form: str, fc1: dict[str, str], tmp_path: Path) -> None:
    model, module = tuned(dense(5, activation="relu", **fc1), dense(3)), Published()
    path = saved(model, tmp_path / form)
    plan = bridge.load(module, path, strict=True)
    assert not plan.skipped
    assert not plan.untouched
    images = np.random.default_rng(1).normal(size=(2, 8, 7, 3)).astype("float32")
    expected = np.asarray(model(images).detach())
    given = module(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    assert bridge.verify(module, path).ok
    back = bridge.save(module, tmp_path / f"back{form[1:]}", like=path)
    for one, other in zip(bridge.read(path).items(), bridge.read(back).items(), strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("head", "module"),
    [
        (lambda: (dense(5), dense(4), dense(3)), Published),
        (lambda: (dense(3),), Published),
        (lambda: (dense(6), dense(3)), Published),
        (lambda: (dense(5, name="mine"), dense(3, name="logits")), Published),
    ],
    ids=["one more", "one less", "of other widths", "of the user's names"],
)
def test_any_other_head_is_left_out_and_said_so(
    head: Callable[[], tuple[Any, ...]], module: Callable[[], nn.Module], tmp_path: Path
) -> None:
    plan = bridge.load(module(), saved(tuned(*head()), tmp_path / "w.keras"))
    assert {copy.target for copy in plan.copied.values()} == {"conv.weight", "conv.bias"}
    assert plan.skipped
    assert len(plan.untouched) == 4


def test_nothing_is_guessed_where_more_than_the_head_is_open(tmp_path: Path) -> None:
    class Deeper(Published):
        keras_layers: ClassVar[Mapping[str, str]] = {**Published.keras_layers, "more": "block1_conv2"}

        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Conv2d(4, 4, 1)

    plan = bridge.load(Deeper(), saved(tuned(dense(5), dense(3)), tmp_path / "w.keras"))
    assert {copy.target for copy in plan.copied.values()} == {"conv.weight", "conv.bias"}
