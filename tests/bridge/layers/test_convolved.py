"""A VGG's first Dense layers are convolutions in timm: a file converted for it holds them so, and comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.__main__ import main

WIDTHS = (4, 5, 6, 6, 7, 7, 8, 8)  # of VGG11, whose blocks have 1, 1, 2, 2 and 2 convolutions
BEHIND = (0, 1, 3, 5, 7)  # what a pooling stands behind


def original(keras: Any, size: tuple[int, int]) -> Any:
    layers = keras.layers
    x = inputs = layers.Input((*size, 3))
    names = [
        f"block{block}_conv{stage}" for block, depth in enumerate((1, 1, 2, 2, 2), 1) for stage in range(1, depth + 1)
    ]
    for at, (name, width) in enumerate(zip(names, WIDTHS, strict=True)):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(name=f"pool{at}")(x) if at in BEHIND else x
    x = layers.Flatten()(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(9, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(2, name="predictions")(x))


def as_timm_builds_it(window: tuple[int, int]) -> nn.Module:
    """The layers of timm's VGG11 with their names."""
    steps: list[nn.Module] = []
    for at, (taken, given) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
        steps += [nn.Conv2d(taken, given, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if at in BEHIND else [])]
    top = {"fc1": nn.Conv2d(WIDTHS[-1], 9, window), "act1": nn.ReLU(), "fc2": nn.Conv2d(9, 9, 1), "act2": nn.ReLU()}
    model, head = nn.Sequential(), nn.Sequential()
    model.add_module("features", nn.Sequential(*steps))
    model.add_module("pre_logits", nn.Sequential())
    for name, part in top.items():
        model.pre_logits.add_module(name, part)
    head.add_module("flatten", nn.Flatten())
    head.add_module("fc", nn.Linear(9, 2))
    model.add_module("head", head)
    return model.eval()


@pytest.fixture(params=[(64, 64), (64, 96)], ids=["a square map", "a map with sides of 2 and 3"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def written(keras: Any, randomised: Any, saved: Any, size: tuple[int, int]) -> tuple[Any, Path]:
    model = randomised(original(keras, size))
    return model, saved(model)


def converted(source: Path, target: Path, *options: str) -> dict[str, torch.Tensor]:
    assert main(["convert", str(source), str(target), *options]) == 0
    return {name.replace("/", "."): torch.from_numpy(np.asarray(array)) for name, array in bridge.read(target).items()}


def test_timm_loads_what_was_converted_for_it(
    written: tuple[Any, Path], size: tuple[int, int], images: Any, tmp_path: Path
) -> None:
    model, path = written
    state = converted(path, tmp_path / "timm.safetensors", "--to", "timm")
    ours = as_timm_builds_it((size[0] // 32, size[1] // 32))
    ours.load_state_dict(state)
    x = images(2, *size, 3)
    expected = np.asarray(model(x, training=False).detach())
    with torch.inference_mode():
        np.testing.assert_allclose(ours(torch.from_numpy(x).movedim(-1, 1)).numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.save(ours.state_dict(), tmp_path / "own.pt")
    back = tmp_path / "back.h5"
    assert main(["convert", str(tmp_path / "own.pt"), str(back), "--like", str(path)]) == 0
    first, second = bridge.read(path), bridge.read(back)
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("by_way_of", ["keras", "torchvision"])
def test_from_one_scheme_to_another_and_back_no_number_and_no_shape_changes(
    written: tuple[Any, Path], size: tuple[int, int], by_way_of: str, tmp_path: Path, capsys: Any
) -> None:
    timm = converted(written[1], tmp_path / "timm.safetensors", "--to", "timm")
    linear = converted(tmp_path / "timm.safetensors", tmp_path / "linear.safetensors", "--to", by_way_of)
    direct = converted(written[1], tmp_path / "direct.safetensors", "--to", by_way_of)
    assert {name: each.shape for name, each in linear.items()} == {name: each.shape for name, each in direct.items()}
    assert all(torch.equal(linear[name], direct[name]) for name in direct)
    if size[0] == size[1]:
        again = converted(tmp_path / "linear.safetensors", tmp_path / "again.safetensors", "--to", "timm")
        assert all(torch.equal(again[name], timm[name]) for name in timm)
        return
    assert main(["convert", str(tmp_path / "linear.safetensors"), str(tmp_path / "x.pt"), "--to", "timm"]) == 2
    assert "48 values, which are no square map of 8 channels" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
