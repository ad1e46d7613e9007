"""Names and networks that no scheme claims: another structure, a head of one's own, other architectures."""

from typing import Any

import pytest
import torch
from published import BN, CONV, DENSE, VGG, keras_vgg, layers_of, unallocated
from torch import nn

from bridge.naming import names

torchvision = pytest.importorskip("torchvision")


def one_linear(vgg: nn.Module) -> None:
    vgg.classifier = nn.Linear(25088, 5)


def another_step(vgg: nn.Module) -> None:
    vgg.classifier = nn.Sequential(nn.Linear(25088, 64), nn.ReLU(), nn.Linear(64, 5))


def with_normalisation(vgg: nn.Module) -> None:
    vgg.classifier = nn.Sequential(nn.Linear(25088, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 5))


def a_last_part(vgg: nn.Module) -> None:
    vgg.classifier[6] = nn.Sequential(nn.Linear(4096, 64), nn.ReLU(), nn.Linear(64, 5))


def a_decoder(vgg: nn.Module) -> None:
    vgg.classifier = nn.Identity()
    vgg.decoder = nn.Sequential(nn.ConvTranspose2d(512, 8, 2), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1))


def of_that_name(vgg: nn.Module) -> None:
    vgg.classifier[6] = nn.Identity()
    vgg.fc1 = nn.Linear(4096, 2)  # what Keras calls classifier.0


HEADS = {one_linear: 0, another_step: 0, with_normalisation: 0, a_last_part: 2, a_decoder: 0, of_that_name: 1}


@pytest.mark.parametrize(("replace", "kept"), HEADS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_head_of_ones_own_keeps_its_names(replace: Any, kept: int) -> None:
    with torch.device("meta"):
        vgg = torchvision.models.vgg16()
        replace(vgg)
    theirs = layers_of(vgg)
    given = names.detect(theirs).to_keras(theirs)
    assert list(given)[:13] == [path for path in theirs if path.startswith("features/")]
    assert len(given) == 13 + kept
    assert "fc1" not in theirs or "fc1" not in given.values()


def test_layers_of_ones_own_beside_keras_vgg_have_no_place_in_the_others() -> None:
    keras = keras_vgg(VGG["vgg16"], norm=False) | {"my_head": DENSE, "block6_up": "Conv2DTranspose", "dense_3": DENSE}
    for name in ("torchvision", "timm", "smp", "caffe"):
        assert list(names.scheme(name).from_keras(keras)) == list(keras)[:13]


def test_numbers_are_not_guessed_where_a_layer_before_is_missing() -> None:
    keras = keras_vgg(VGG["vgg16"], norm=False)
    normalised = keras_vgg(VGG["vgg16"], norm=True)
    for layers, missing in ((keras, "block2_conv1"), (keras, "block1_conv1"), (normalised, "block1_conv2_bn")):
        assert names.scheme("torchvision").from_keras({name: layers[name] for name in layers if name != missing}) == {}
    without_block = {name: kind for name, kind in keras.items() if not name.startswith("block3")}
    assert names.scheme("torchvision").from_keras(without_block) == {}
    assert len(names.scheme("caffe").from_keras(without_block)) == 10  # a name of its own for each: nothing to guess


def sequential(*steps: nn.Module | str) -> nn.Sequential:
    """Convolutions "c", normalisations "n" and what has no weights, ".", one after the other."""
    made = {"c": lambda: nn.Conv2d(4, 4, 3), "n": lambda: nn.BatchNorm2d(4), "d": lambda: nn.Linear(4, 4)}
    return nn.Sequential(*(made.get(step, nn.ReLU)() for step in "".join(map(str, steps))))


FOREIGN = ["alexnet", "squeezenet1_0", "mobilenet_v2", "efficientnet_b0", "resnet18", "mnasnet0_5"]


@pytest.mark.parametrize("name", [*FOREIGN, "shufflenet_v2_x0_5", "convnext_tiny", "mobilenet_v3_small"])
def test_other_networks_of_torchvision_are_not_claimed(name: str) -> None:
    theirs = unallocated(getattr(torchvision.models, name), weights=None)
    assert names.detect(theirs).name == "keras"


SMALL = {
    "one convolution a block": "c..c..c..c..",
    "with normalisation": "cn..cn..cn..cn..",
    "normalised after the ReLU": "c.nc.n.c.nc.n.",
    "normalised now and then": "cn.c..cn.c..",
    "no pooling": "c.c.c.c.c.",
    "three in the first block": "c.c.c..c.c..",
    "begins later": ".c.c..c.c..",
    "another step": "cc.cc.cc.cc.",
    "a dense layer in it": "c.c..c.c...d",
}


@pytest.mark.parametrize("steps", SMALL.values(), ids=SMALL.keys())
@pytest.mark.parametrize("part", ["features/", "encoder/features/", ""])
def test_a_sequential_of_another_structure_is_not_claimed(part: str, steps: str) -> None:
    theirs = {f"{part}{path}": kind for path, kind in unallocated(sequential, steps).items()}
    assert names.detect(theirs).name == "keras"


def test_a_unet_with_caffes_names_is_not_claimed() -> None:
    theirs = {f"conv{block}_{conv}": CONV for block in range(1, 10) for conv in (1, 2)}
    assert names.detect(theirs).name == "keras"
    blocks = {f"conv{block}_{conv}/0": CONV for block in range(1, 6) for conv in (1, 2)}
    assert names.detect(blocks).name == "keras"
    transposed = {f"conv{block}_{conv}": "Conv2DTranspose" for block in range(1, 6) for conv in (1, 2)}
    assert names.detect(transposed).name == "keras"


RESNET = "conv1_conv conv1_bn conv2_block1_1_conv conv2_block1_1_bn conv2_block1_2_conv conv2_block1_2_bn predictions"


XCEPTION = "block1_conv1 block1_conv1_bn block1_conv2 block1_conv2_bn block2_sepconv1 block2_sepconv1_bn predictions"


@pytest.mark.parametrize("layers", [RESNET, f"{RESNET} conv2_block1_0_bn", XCEPTION, "fc1 fc2 predictions", "bn"])
def test_other_networks_of_keras_have_no_names_elsewhere(layers: str) -> None:
    kinds = {layer: BN if layer.endswith("bn") else CONV for layer in layers.split()}
    for name in ("torchvision", "timm", "smp", "caffe"):
        assert names.scheme(name).from_keras(kinds) == {}


@pytest.mark.parametrize("number", ["9" * 5000, "00", "-1", "²", "1_0", ""])
@pytest.mark.parametrize("path", ["features/{}", "{}", "conv1_{}", "features/denseblock1/denselayer{}/norm1"])
def test_what_is_no_number_of_a_layer_is_a_name_like_any_other(path: str, number: str) -> None:
    layers = {"features/conv0": CONV, "conv1_1": CONV, path.format(number): CONV}
    assert names.detect(layers).name == "keras"
    for scheme in names.SCHEMES.values():
        scheme.to_keras(layers)
        scheme.from_keras({f"block1_conv{number}": CONV, f"conv2_block{number}_0_bn": BN, f"block{number}_conv1": CONV})
