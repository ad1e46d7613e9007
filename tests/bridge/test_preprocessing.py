"""What a first layer expects of an image: the same numbers as Keras's preprocess_input, as a module and as a record."""

import hashlib
import inspect
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bridge
from bridge.preprocessing import CAFFE, KNOWN_FIRST_KERNELS, MODES, TF, TORCH, Preprocessing, for_model_name, from_dict


@pytest.fixture
def shown() -> np.ndarray:
    """Every value of 0..255, in images (N, H, W, C)."""
    return np.random.default_rng(0).permutation(np.arange(2 * 7 * 64 * 3) % 256).reshape(2, 7, 64, 3).astype(np.uint8)


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_the_module_gives_bit_by_bit_what_keras_gives(
    mode: Preprocessing, dtype: torch.dtype, keras: Any, shown: np.ndarray
) -> None:
    prepare = keras.applications.imagenet_utils.preprocess_input
    expected = prepare(shown.astype(np.float32), data_format="channels_last", mode=mode.mode)
    given = mode.module()(channels_first(shown).to(dtype))
    assert given.dtype == torch.float32
    assert np.array_equal(given.permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("mode", [*MODES.values(), CAFFE.flipped()], ids=str)
def test_the_exported_module_gives_the_same(mode: Preprocessing, shown: np.ndarray) -> None:
    module = mode.module()
    exported = torch.export.export(module, (channels_first(shown),)).module()
    assert torch.equal(exported(channels_first(shown)), module(channels_first(shown)))


def test_a_flipped_preprocessing_gives_the_same_channels_in_the_other_order(shown: np.ndarray) -> None:
    for mode in MODES.values():
        straight, flipped = (each.module()(channels_first(shown)) for each in (mode, mode.flipped()))
        assert torch.equal(flipped, straight.flip(1))
        assert mode.flipped().flipped() == mode
    assert CAFFE.flipped() == Preprocessing("caffe", "RGB", 1.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0))


def test_grey_images_are_prepared_by_one_number_for_all_channels(shown: np.ndarray) -> None:
    grey = channels_first(shown[..., :1])
    tf = TF.module()(grey.expand(-1, 3, -1, -1))
    assert torch.equal(TF.grey().module()(grey), tf[:, :1])
    assert TF.same_for_all_channels
    assert not CAFFE.same_for_all_channels
    assert CAFFE.grey().mean == (sum(CAFFE.mean) / 3,)


def test_the_module_adds_nothing_to_a_state_dict_and_says_what_it_does() -> None:
    module = TORCH.module()
    assert module.state_dict() == {}
    assert "torch: RGB, 0..255 / 255 minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)" in repr(module)


@pytest.mark.parametrize("shape", [(2, 7, 9, 3), (2, 1, 7, 9), (7, 9)])
def test_images_of_other_channels_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(bridge.BridgeError, match=r"are not \(N, 3, H, W\), which caffe preprocessing takes") as error:
        CAFFE.module()(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", [*MODES.values(), CAFFE.flipped(), TF.flipped(), CAFFE.grey(), TORCH.grey()], ids=str)
def test_a_preprocessing_survives_the_header_of_a_file(mode: Preprocessing, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": torch.zeros(2, 3)}, path, {"preprocessing": json.dumps(mode.to_dict())})
    assert bridge.read(path).preprocessing == mode


def test_a_file_that_has_no_place_for_it_is_not_written_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a.weight": torch.zeros(2, 3)}, path, {"preprocessing": json.dumps(CAFFE.to_dict())})
    assert bridge.convert(path, tmp_path / "other.safetensors").notes == ()
    (note,) = bridge.convert(path, tmp_path / "other.pt").notes
    assert note == f"other.pt cannot say that it expects {CAFFE}; a .safetensors file does."


def test_a_keras_file_is_not_silent_on_weights_that_expect_other_images_than_it_says(tmp_path: Path) -> None:
    module = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 2, 3)))
    like = bridge.save(module, tmp_path / "like.h5")
    path = tmp_path / "w.safetensors"
    names = {f"conv.{name}": tensor for name, tensor in module.conv.state_dict().items()}
    save_file(names, path, {"preprocessing": json.dumps(CAFFE.flipped().to_dict())})
    (note,) = bridge.convert(path, tmp_path / "back.h5", like=like).notes
    assert note == f"back.h5 does not say that it expects {CAFFE.flipped()}; prepare its images so."
    save_file(names, path)
    assert bridge.convert(path, tmp_path / "back.h5", like=like).notes == ()


WRONG: dict[str, dict[str, Any]] = {
    "mode": {"mode": "cafe"},
    "order": {"order": "RBG"},
    "mean of another length": {"mean": [0.5]},
    "mean of text": {"mean": ["0", "0", "0"]},
    "mean that is no list": {"mean": 0.5},
    "mean beyond all measure": {"mean": [0, 0, 10**400]},
    "std of zero": {"std": [1, 0, 1]},
    "std that is no number": {"std": [1, 1, float("nan")]},
    "divisor of zero": {"divisor": 0},
    "divisor that is true": {"divisor": True},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_record_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        from_dict(CAFFE.to_dict() | wrong)
    with pytest.raises(KeyError):
        from_dict({key: value for key, value in CAFFE.to_dict().items() if key not in wrong})


APPLICATIONS = {
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "ResNet50": "resnet",
    "ResNet152": "resnet",
    "ResNet101V2": "resnet_v2",
    "DenseNet121": "densenet",
    "DenseNet201": "densenet",
    "Xception": "xception",
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "NASNetMobile": "nasnet",
    "NASNetLarge": "nasnet",
    "EfficientNetB0": "efficientnet",
    "EfficientNetV2S": "efficientnet_v2",
    "ConvNeXtTiny": "convnext",
    "MobileNetV3Small": "mobilenet_v3",
}


@pytest.mark.parametrize(("model", "module"), APPLICATIONS.items(), ids=APPLICATIONS.keys())
def test_the_name_of_a_published_model_tells_its_preprocessing(
    model: str, module: str, keras: Any, shown: np.ndarray
) -> None:
    name = inspect.signature(getattr(keras.applications, model)).parameters["name"].default
    known = for_model_name(name)
    prepare = getattr(keras.applications, module).preprocess_input
    expected = prepare(shown.astype(np.float32), data_format="channels_last")
    if known is None:  # it prepares images in layers of its own
        assert np.array_equal(expected, shown)
    else:
        assert np.array_equal(known.module()(channels_first(shown)).permute(0, 2, 3, 1).numpy(), expected)


def test_other_names_tell_nothing() -> None:
    known = ("mobilenet_1.00_224", "mobilenetv2_0.35_96", "resnext50")
    assert [for_model_name(name) for name in known] == [TF, TF, TORCH]
    assert [for_model_name(name) for name in ("model", "my_vgg16", "vgg16_1", "")] == [None] * 4


@pytest.fixture
def published(keras: Any, randomised: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small network whose first kernel is known as that of one for Caffe's images."""
    layers = keras.layers
    model = randomised(keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv")], name="base"))
    kernel = np.ascontiguousarray(model.get_layer("conv").kernel.value.detach().numpy(), dtype="<f4")
    monkeypatch.setitem(KNOWN_FIRST_KERNELS, hashlib.sha256(kernel.tobytes()).hexdigest(), CAFFE)
    return model


def notes_on_images(path: Path, chain: Any) -> list[str]:
    plan = bridge.match(bridge.read(path), chain(("conv", torch.nn.Conv2d(3, 4, 3))))
    return [note for note in plan.notes if "expects" in note]


def test_layers_in_front_of_a_known_network_take_other_images_and_the_plan_says_so(
    published: Any, keras: Any, saved: Any, chain: Any
) -> None:
    layers = keras.layers
    assert notes_on_images(saved(published, "plain.keras"), chain) == []
    scaled = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1 / 255, name="unit"), published])
    (note,) = notes_on_images(saved(scaled, "scaled.keras"), chain)
    assert note == (
        f"its first convolution is that of a network which expects {CAFFE}; unit in front of it takes the images here."
    )
    grey = keras.Input((8, 8, 1))
    colours = keras.Model(grey, published(layers.Concatenate()([grey, grey, grey])))
    assert "what stands in front of it" in notes_on_images(saved(colours, "grey.keras"), chain)[0]


def test_the_name_of_a_model_is_a_hint_where_its_weights_are_not_known(
    keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")]
    model = randomised(keras.Sequential(layers, name="densenet121"))
    assert bridge.read(saved(model, "named.keras")).preprocessing is None
    (note,) = notes_on_images(saved(model, "named.keras"), chain)
    assert note == (
        f"a model in it is called densenet121: Keras's of that name, with ImageNet's weights, expects {TORCH}."
    )
