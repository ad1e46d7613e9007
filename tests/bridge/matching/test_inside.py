"""A network on a published base: the model inside the file is found by its layers' names, and the plan says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from originals import DEPTHS, densenet, vgg_maps
from torch import nn

import bridge
from torch_convae.models import VGG16Encoder, create

torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
WIDTHS = (4, 6, 8, 10, 12)
SIZE = (40, 36, 3)
NOTE = "The layers are those inside vgg16, by their own names, as with rename={'vgg16/*': '*'}."


def vgg_base(keras: Any, name: str = "vgg16") -> Any:
    inputs = keras.layers.Input(SIZE)
    return keras.Model(inputs, vgg_maps(keras.layers, inputs, WIDTHS)[-1], name=name)


def tuned(keras: Any, base: Any) -> Any:
    """The base under a head of the user's own, as tutorials of transfer learning write it."""
    layers = keras.layers
    head = [layers.Flatten(), layers.Dense(5, activation="relu"), layers.Dense(3, name="answer")]
    return keras.Sequential([layers.Input(base.input_shape[1:]), base, *head])


def features() -> nn.Sequential:
    """torchvision's own builder, with a few channels."""
    widths: list[Any] = []
    for depth, width in zip(DEPTHS, WIDTHS, strict=True):
        widths += ["M"] * bool(widths) + [width] * depth
    return torchvision.models.vgg.make_layers(widths)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["torchvision", "its features", "smp", "encoder"])
def test_the_base_of_a_tuned_network_goes_to_where_its_own_file_would(
    target: str, form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path, assert_same: Any, images: Any
) -> None:
    base = vgg_base(keras)
    path = file_of(randomised(tuned(keras, base)), form, saved, tmp_path)
    if target == "encoder":
        encoder = VGG16Encoder(widths=WIDTHS)
        module, last = encoder, encoder
    else:
        last = features()
        module = {"torchvision": tree(features=last), "its features": last, "smp": tree(encoder=tree(features=last))}[
            target
        ]
    plan = bridge.load(module, path)
    assert NOTE in plan.notes
    assert len(plan.copied) == 26
    assert plan.untouched == ()
    assert {key.partition("/")[0] for key in plan.skipped} == {"dense", "answer"}
    x = images(2, *SIZE)
    if target == "encoder":
        given = encoder(torch.from_numpy(x).permute(0, 3, 1, 2))[-1].permute(0, 2, 3, 1)
        np.testing.assert_allclose(given.detach(), base(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    else:
        assert_same(base, last, x)
    assert bridge.verify(module, path).ok
    kind = {"whole": ".h5", "weights": ".h5"}.get(form, form)
    with torch.no_grad():
        next(module.parameters()).mul_(2)
    back = bridge.save(module, tmp_path / f"back{kind}", like=path, skip=("dense", "answer"))
    before, after = bridge.read(path), bridge.read(back)
    assert [key for key in before if not np.array_equal(before[key], after[key])] == ["vgg16/block1_conv1/kernel"]


@pytest.mark.parametrize("blocks", [3, 5])
def test_the_base_goes_into_a_unet_on_some_of_its_blocks(blocks: int, keras: Any, randomised: Any, saved: Any) -> None:
    path = saved(randomised(tuned(keras, keras.applications.VGG16(False, None, input_shape=(32, 32, 3)))))
    plan = bridge.load(create("vgg16_unet", classes=2, blocks=blocks), path)
    assert len(plan.copied) == 2 * sum(DEPTHS[:blocks])
    assert NOTE in plan.notes


@pytest.mark.parametrize("form", FORMS)
def test_a_densenet_under_a_head_is_found_and_has_its_epsilon(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    base = densenet(keras, (33, 40, 3), None, (2, 1, 1, 1))
    path = file_of(randomised(tuned(keras, base)), form, saved, tmp_path)
    module = create("densenet121", classes=3, depths=(2, 1, 1, 1))
    plan = bridge.load(module, path)
    assert "The layers are those inside densenet, by their own names, as with rename={'densenet/*': '*'}." in plan.notes
    assert not any("eps=" in note for note in plan.notes)
    assert {name.partition(".")[0] for name in plan.untouched} == {"classifier"}
    assert bridge.verify(module, path).ok


@pytest.mark.parametrize("scheme", ["torchvision", "smp", "caffe"])
def test_a_base_is_converted_to_a_scheme_by_its_own_names(
    scheme: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    path, converted = saved(randomised(tuned(keras, vgg_base(keras)))), tmp_path / "base.safetensors"
    done = bridge.convert(path, converted, to=scheme)
    assert NOTE in done.notes
    assert {key.partition("/")[0] for key in done.skipped} == {"dense", "answer"}
    module = tree(features=features())
    plan = bridge.load(module, converted, strict=True)
    assert len(plan.copied) == 26
    assert bridge.verify(module, path).ok
    back = tmp_path / "back.h5"
    bridge.convert(converted, back, like=path, skip=("dense", "answer"))
    before, after = bridge.read(path), bridge.read(back)
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_two_bases_are_one_too_many_and_the_next_step_is_said(
    keras: Any, randomised: Any, saved: Any, refused: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    inputs = layers.Input(SIZE)
    both = [vgg_base(keras, name)(inputs) for name in ("left", "right")]
    model = randomised(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.concatenate(both)))))
    path, module = saved(model), tree(features=features())
    with pytest.raises(
        bridge.BridgeError,
        match=r"left, right each hold layers that the module has .*rename=\{'left/\*': '\*'\}, or leave .* 'right/\*'",
    ):
        bridge.load(module, path)
    assert "left, right each hold" in refused("convert", path, tmp_path / "x.safetensors", "--to", "torchvision")
    assert len(bridge.load(module, path, rename={"right/*": "*"}).copied) == 26
    assert torch.equal(
        module.get_parameter("features.0.bias"), torch.from_numpy(bridge.read(path)["right/block1_conv1/bias"])
    )
    assert len(bridge.load(module, path, skip="right/*").copied) == 26
    assert torch.equal(
        module.get_parameter("features.0.bias"), torch.from_numpy(bridge.read(path)["left/block1_conv1/bias"])
    )


def two_parts(written: Any, numbers: Any, **layers: dict[str, Any]) -> Path:
    inner = {f"{name}/kernel:0": numbers(4, 4, seed=seed) for seed, name in enumerate(("a", "b"))}
    return written({"base": inner, **{layer: {f"{layer}/kernel:0": array} for layer, array in layers.items()}})


def test_users_names_inside_a_model_are_enough_where_all_of_them_are_there(written: Any, numbers: Any) -> None:
    path = two_parts(written, numbers, dense=numbers(4, 2))
    module = tree(a=nn.Linear(4, 4, bias=False), b=nn.Linear(4, 4, bias=False), top=nn.Linear(4, 9))
    plan = bridge.load(module, path)
    assert [(copy.source, copy.target) for copy in plan.copied.values()] == [
        ("base/a/kernel", "a.weight"),
        ("base/b/kernel", "b.weight"),
    ]
    part = tree(a=nn.Linear(4, 4, bias=False), c=nn.Linear(4, 4, bias=False))
    with pytest.raises(bridge.BridgeError, match=r"has nothing for Module: .* Try rename=\{'base/\*': '\*'\}"):
        bridge.load(part, path)


def test_a_layer_outside_with_a_name_from_inside_goes_first(written: Any, numbers: Any) -> None:
    path = two_parts(written, numbers, a=numbers(4, 4, seed=5))
    module = tree(a=nn.Linear(4, 4, bias=False), b=nn.Linear(4, 4, bias=False))
    plan = bridge.load(module, path)
    assert list(plan.copied) == ["a/kernel"]
    assert plan.untouched == ("b.weight",)


def test_numbers_of_keras_are_no_names(written: Any, numbers: Any) -> None:
    path = written({"base": {"dense/kernel:0": numbers(4, 4), "dense_1/kernel:0": numbers(4, 4)}})
    with pytest.raises(bridge.BridgeError, match="has nothing for Module"):
        bridge.load(tree(dense=nn.Linear(4, 4), dense_1=nn.Linear(4, 4)), path)
