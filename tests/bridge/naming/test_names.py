"""Every scheme names the layers of the real networks as Keras does, both ways, and never those of others."""

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published import BN, CONV, DENSE, VGG, Layers, keras_vgg, layers_of, unallocated
from torch import nn

import bridge
from bridge import BridgeError
from bridge.naming import names

torchvision = pytest.importorskip("torchvision")


DENSENET = {
    "densenet121": (6, 12, 24, 16),
    "densenet161": (6, 12, 36, 24),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
EVERY_VGG = [(name, norm) for name in VGG for norm in (False, True)]
TOP = {"fc1": DENSE, "fc2": DENSE, "predictions": DENSE}


def weighted(model: Any) -> dict[str, Any]:
    return {layer.name: layer for layer in model.layers if layer.weights}


def keras_densenet(depths: tuple[int, ...]) -> Layers:
    """DenseNet's layers as keras.applications names them."""
    layers = {"conv1_conv": CONV, "conv1_bn": BN}
    for block, depth in enumerate(depths, start=2):
        for layer in range(1, depth + 1):
            parts = ("0_bn", "1_conv", "1_bn", "2_conv")
            layers |= {f"conv{block}_block{layer}_{part}": CONV if part.endswith("conv") else BN for part in parts}
        layers |= {f"pool{block}_bn": BN, f"pool{block}_conv": CONV} if block <= len(depths) else {}
    return layers | {"bn": BN}


def assert_both_ways(name: str, theirs: Layers, keras: Layers) -> None:
    """The scheme maps one onto the other without loss, layer by layer in both orders, and is found out by itself."""
    scheme = names.scheme(name)
    assert list(scheme.to_keras(theirs).items()) == list(zip(theirs, keras, strict=True))
    assert scheme.from_keras(keras) == dict(zip(keras, theirs, strict=True))
    assert names.detect(theirs) is scheme
    assert names.detect(keras) is names.scheme("keras")


# torchvision


@pytest.mark.parametrize(("name", "norm"), EVERY_VGG)
def test_torchvisions_vgg_has_keras_names_in_the_same_order(name: str, norm: bool) -> None:
    theirs = unallocated(getattr(torchvision.models, f"{name}_bn" if norm else name))
    assert_both_ways("torchvision", theirs, keras_vgg(VGG[name], norm) | TOP)


@pytest.mark.parametrize(("name", "depths"), DENSENET.items())
def test_torchvisions_densenet_has_keras_names_in_the_same_order(name: str, depths: tuple[int, ...]) -> None:
    theirs = unallocated(getattr(torchvision.models, name))
    assert_both_ways("torchvision", theirs, keras_densenet(depths) | {"predictions": DENSE})


@pytest.mark.parametrize("name", ["VGG16", "VGG19", "DenseNet121"])
def test_the_layers_of_keras_applications_go_to_torchvisions_with_their_shapes(name: str, keras: Any) -> None:
    options = {"input_shape": (32, 32, 3)} if name.startswith("VGG") else {}  # fc1 is large enough
    model = weighted(getattr(keras.applications, name)(weights=None, **options))
    with torch.device("meta"):
        module = getattr(torchvision.models, name.lower())()
    theirs = layers_of(module)
    paths = names.scheme("torchvision").from_keras({layer: type(own).__name__ for layer, own in model.items()})
    assert list(names.scheme("torchvision").to_keras(theirs).values()) == list(model)
    assert list(paths) == list(model)
    assert list(paths.values()) == list(theirs)
    for layer, path in paths.items():
        *window, inputs, outputs = [1, 1, *model[layer].weights[0].shape]
        weight = module.get_submodule(path.replace("/", ".")).weight
        if layer != "fc1":  # its images are smaller
            assert weight.numel() == inputs * outputs * prod(window), layer
            assert weight.shape[0] == outputs, layer


@pytest.mark.parametrize("name", ["vgg16_bn", "densenet121"])
def test_the_features_alone_are_the_same_layers(name: str) -> None:
    theirs = unallocated(lambda: getattr(torchvision.models, name)().features)
    keras = keras_vgg(VGG["vgg16"], norm=True) if name == "vgg16_bn" else keras_densenet(DENSENET[name])
    assert names.detect(theirs).name == "torchvision"
    assert list(names.detect(theirs).to_keras(theirs).values()) == list(keras)


def test_torchvisions_first_densenet_files_have_two_dots_more() -> None:
    """`denselayer1.norm.1.weight`, as its published files have it to this day."""
    theirs = unallocated(torchvision.models.densenet121)
    older = {path[:-1] + "/" + path[-1] if "denselayer" in path else path: kind for path, kind in theirs.items()}
    assert "features/denseblock1/denselayer1/norm/1" in older
    assert names.detect(older).name == "torchvision"
    assert list(names.detect(older).to_keras(older).values()) == list(names.detect(theirs).to_keras(theirs).values())


def test_keras_applications_older_names_of_densenet_are_taken_for_todays() -> None:
    today = keras_densenet(DENSENET["densenet121"]) | {"predictions": DENSE}
    older = {"conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn", "predictions": "fc1000"}
    given = {older.get(layer, layer): kind for layer, kind in today.items()}
    paths = names.scheme("torchvision").from_keras(given)
    assert paths["conv1/conv"] == "features/conv0"
    assert list(paths.values()) == list(names.scheme("torchvision").from_keras(today).values())
    assert list(names.canonical(given).values()) == list(today)
    assert names.aligned(list(given), list(today)) == dict(zip(given, today, strict=True))
    assert names.aligned(list(given), list(given)) == {layer: layer for layer in given}


@pytest.mark.parametrize("layer", ["fc1000", "conv1/conv"])
def test_these_names_mean_nothing_in_another_network(layer: str) -> None:
    assert names.canonical([layer, "conv"]) == {layer: layer, "conv": "conv"}


# timm and segmentation_models_pytorch


@pytest.mark.parametrize(("name", "norm"), EVERY_VGG)
def test_timms_vgg_has_its_first_dense_layers_elsewhere(name: str, norm: bool) -> None:
    timm = pytest.importorskip("timm")
    theirs = unallocated(timm.create_model, f"{name}_bn" if norm else name)
    assert list(theirs)[-3:] == ["pre_logits/fc1", "pre_logits/fc2", "head/fc"]
    assert_both_ways("timm", theirs, keras_vgg(VGG[name], norm) | TOP)
    assert list(theirs.values())[-3:] == [CONV, CONV, DENSE]  # fc1 spans the map, fc2 one position


def test_timms_densenet_is_torchvisions() -> None:
    timm = pytest.importorskip("timm")
    theirs = unallocated(timm.create_model, "densenet121")
    assert theirs == unallocated(torchvision.models.densenet121)
    for name in ("torchvision", "timm"):
        assert list(names.scheme(name).to_keras(theirs).values())[-2:] == ["bn", "predictions"]


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg13", "vgg16", "vgg16_bn", "vgg19", "densenet121", "densenet169"])
def test_a_whole_segmentation_model_has_keras_names_for_its_encoder_alone(name: str) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    theirs = unallocated(smp.Unet, name, encoder_weights=None)
    base, _, norm = name.partition("_")
    keras = keras_vgg(VGG[base], bool(norm)) if base in VGG else keras_densenet(DENSENET[base])
    encoder = {path: kind for path, kind in theirs.items() if path.startswith("encoder/")}
    assert len(encoder) < len(theirs)
    assert_both_ways("smp", encoder, keras)
    assert names.detect(theirs).name == "smp"
    assert names.detect(theirs).to_keras(theirs) == names.scheme("smp").to_keras(encoder)
    part = {path.removeprefix("encoder/"): kind for path, kind in encoder.items()}  # by prefix="encoder"
    assert list(names.detect(part).to_keras(part).values()) == list(keras)


def test_an_encoder_has_no_place_for_vggs_top() -> None:
    paths = names.scheme("smp").from_keras(keras_vgg(VGG["vgg16"], norm=False) | TOP)
    assert len(paths) == 13
    assert paths["block5_conv3"] == "encoder/features/28"


# Caffe, and SegNet after it


class SegNet(nn.Module):
    """The encoder of VGG16 with batch normalisation and its mirror, each unit under Caffe's name."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 512)
        width = 3
        for block, (depth, out) in enumerate(zip(VGG["vgg16"], widths, strict=True), start=1):
            for conv in range(1, depth + 1):
                self.unit(f"conv{block}_{conv}", width, out)
                width = out
        for block, depth in reversed(list(enumerate(VGG["vgg16"], start=1))):
            for conv in range(depth, 0, -1):
                out = widths[block - 1] if conv > 1 else widths[max(block - 2, 0)]
                self.unit(f"conv{block}_{conv}_D", width, out if (block, conv) != (1, 1) else classes)
                width = out
        del self.conv1_1_D_bn

    def unit(self, name: str, width: int, out: int) -> None:
        self.add_module(name, nn.Conv2d(width, out, 3, padding=1))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(out))


def test_segnets_encoder_has_keras_names_and_its_decoder_its_own() -> None:
    with torch.device("meta"):
        segnet = SegNet()
    assert sum(parameter.numel() for parameter in segnet.parameters()) == 29_446_470
    theirs = layers_of(segnet)
    encoder = {path: kind for path, kind in theirs.items() if "_D" not in path}
    assert len(theirs) == 51
    assert_both_ways("caffe", encoder, keras_vgg(VGG["vgg16"], norm=True))
    assert names.detect(theirs).name == "caffe"
    assert names.detect(theirs).to_keras(theirs) == names.scheme("caffe").to_keras(encoder)


@pytest.mark.parametrize("kind", [DENSE, CONV], ids=["VGG", "fully convolutional"])
def test_caffes_vgg_has_its_top_at_6_7_and_8(kind: str) -> None:
    keras = keras_vgg(VGG["vgg16"], norm=False) | dict.fromkeys(TOP, kind)
    pairs = zip(keras.items(), ("fc6", "fc7", "fc8"), strict=False)
    convs = {f"conv{layer[5]}_{layer[-1]}": CONV for layer in keras if layer not in TOP}
    assert len(list(pairs)) == 3
    assert_both_ways("caffe", convs | dict.fromkeys(("fc6", "fc7", "fc8"), kind), keras)


# Parts of networks, and layers of one's own


@pytest.mark.parametrize(("name", "norm"), [("vgg16", False), ("vgg16_bn", True), ("vgg19", False)])
def test_a_network_that_is_cut_off_keeps_its_names(name: str, norm: bool) -> None:
    with torch.device("meta"):
        features = getattr(torchvision.models, name)().features
    keras = list(keras_vgg(VGG[name.partition("_")[0]], norm))
    scheme = names.scheme("torchvision")
    for count in range(1, len(features) + 1):
        theirs = {f"features/{path}": kind for path, kind in layers_of(features[:count]).items()}
        given = scheme.to_keras(theirs)
        assert list(given.values()) == keras[: len(theirs)]
        assert scheme.from_keras({name: theirs[path] for path, name in given.items()}) == {
            name: path for path, name in given.items()
        }
        assert names.detect(theirs).name == ("torchvision" if list(theirs.values()).count(CONV) >= 4 else "keras")


@pytest.mark.parametrize("name", ["vgg16", "densenet121"])
def test_a_cut_after_the_third_block_is_found_out(name: str) -> None:
    with torch.device("meta"):
        features = getattr(torchvision.models, name)().features
    end = 17 if name == "vgg16" else list(dict(features.named_children())).index("transition3")
    theirs = {f"features/{path}": kind for path, kind in layers_of(features[:end]).items()}
    given = names.detect(theirs).to_keras(theirs)
    assert list(given) == list(theirs)
    assert list(given.values())[-1] == ("block3_conv3" if name == "vgg16" else "conv4_block24_2_conv")


# Foreign networks


def test_an_unknown_scheme_is_refused_with_all_there_are() -> None:
    with pytest.raises(BridgeError, match=r"no naming scheme 'onnx'; there are keras, torchvision, timm, smp, caffe\."):
        names.scheme("onnx")


# Any depths

depths = st.lists(st.integers(1, 5), min_size=1, max_size=6).map(tuple)


@settings(deadline=None, max_examples=60)
@given(depths=depths, norm=st.booleans(), scheme=st.sampled_from(["torchvision", "timm", "smp", "caffe"]))
def test_a_vgg_of_any_depths_comes_back_as_it_went(depths: tuple[int, ...], norm: bool, scheme: str) -> None:
    keras = keras_vgg(depths, norm)
    paths = names.scheme(scheme).from_keras(keras)
    assert list(paths) == list(keras)
    back = names.scheme(scheme).to_keras({paths[layer]: kind for layer, kind in keras.items()})
    assert back == {path: layer for layer, path in paths.items()}


@settings(deadline=None, max_examples=40)
@given(depths=depths, norm=st.booleans())
def test_the_numbers_are_those_of_torchvisions_own_builder(depths: tuple[int, ...], norm: bool) -> None:
    plan: list[Any] = [step for depth in depths for step in (*[4] * depth, "M")]
    theirs = unallocated(torchvision.models.vgg.make_layers, plan, batch_norm=norm)
    keras = keras_vgg(depths, norm)
    assert names.scheme("torchvision").to_keras(theirs) == dict(zip(theirs, keras, strict=True))
    assert list(names.scheme("torchvision").from_keras(keras).values()) == [f"features/{path}" for path in theirs]


@settings(deadline=None, max_examples=20)
@given(depths=depths, seed=st.randoms(use_true_random=False))
def test_a_densenet_of_any_depths_comes_back_in_whatever_order_it_is_stored(depths: tuple[int, ...], seed: Any) -> None:
    built = unallocated(torchvision.models.DenseNet, block_config=depths)
    keras = keras_densenet(depths) | {"predictions": DENSE}
    expected = dict(zip(built, keras, strict=True))
    stored = list(built)
    seed.shuffle(stored)
    given = names.scheme("torchvision").to_keras({path: built[path] for path in stored})
    assert given == expected
    assert list(given) == stored
    assert names.scheme("torchvision").from_keras(keras) == {name: path for path, name in expected.items()}


# Through the whole bridge


def test_densenet121_gives_in_torchvision_what_it_gives_in_keras(
    keras: Any, randomised: Any, saved: Any, images: Any, assert_same: Any
) -> None:
    """Half of its layers have the shape of another: outputs tell whether each is at its place."""
    model = randomised(keras.applications.DenseNet121(weights=None, classes=7, input_shape=(64, 96, 3)))
    model.layers[-1].activation = keras.activations.linear
    module = torchvision.models.densenet121(num_classes=7)
    plan = bridge.load(module, saved(model), strict=True)
    assert len(plan.copied) == 606
    assert_same(model, module, images(2, 64, 96, 3))


def test_keras_weights_go_into_the_encoder_of_a_whole_segmentation_model(
    keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    model = randomised(keras.applications.DenseNet121(weights=None, include_top=False, input_shape=(64, 96, 3)))
    module = smp.Unet("densenet121", encoder_weights=None).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    plan = bridge.load(module, saved(model))
    assert plan.skipped == ()
    assert all(copy.target.startswith("encoder.") for copy in plan.copied.values())
    assert all(torch.equal(before[name], module.state_dict()[name]) for name in plan.untouched)
    given = images(1, 64, 96, 3)
    with torch.inference_mode():
        maps = module.encoder(torch.from_numpy(given).permute(0, 3, 1, 2))[-1].permute(0, 2, 3, 1)
    np.testing.assert_allclose(maps.relu(), model(given).detach(), rtol=1e-4, atol=1e-4)
