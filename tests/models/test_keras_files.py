"""Every model takes Keras's files of every format, named in any session, without a mapping, and gives them back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import originals
import pytest
import small_models
import torch
from originals import SEGNET_WIDTHS
from small_models import small

import bridge
from torch_convae.models import MODELS, create

NARROW = (4, 6, 8, 10, 12)
FOUR = (8, 12, 16, 20)
VAE = {"widths": (4, 6, 8), "hidden": 16, "code": 5}


@dataclass(frozen=True)
class Case:
    """A model, the same network in Keras, and what it takes: height, width and channels, behind steps of time."""

    model: str
    options: dict[str, Any]
    build: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (12, 20, 3)
    runs: bool = True  # in Keras, which cannot unpool


def vgg16_maps(keras: Any, shape: originals.Shape, widths: tuple[int, ...]) -> Any:
    inputs = keras.layers.Input(shape)
    last = originals.vgg_maps(keras.layers, inputs, widths)[-1]
    return keras.Model(inputs, keras.layers.MaxPooling2D(name="block5_pool")(last))


def vgg16_bn(keras: Any, shape: originals.Shape, widths: tuple[int, ...]) -> Any:
    layers = keras.layers
    inputs = x = layers.Input(shape)
    for block, width in zip(originals.BLOCKS, widths, strict=True):
        for name in (name.replace("conv", "block").replace("_", "_conv") for name in originals.encoder_names(block)):
            x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(
                layers.Conv2D(width, 3, padding="same", name=name)(x)
            )
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, x)


CASES: dict[str, Case] = {
    "convae": Case("convae", {}, originals.conv_autoencoder, {"channels": 2, "size": (12, 20)}, (12, 20, 2)),
    "convae, a code of 5": Case(
        "convae",
        {"code": 5, "size": (12, 20)},
        originals.conv_autoencoder,
        {"channels": 1, "size": (12, 20), "code": 5},
        (12, 20, 1),
    ),
    "convae-classifier": Case(
        "convae-classifier",
        {"classes": 4, "size": (13, 22)},
        originals.conv_classifier,
        {"classes": 4, "size": (13, 22), "channels": 3},
        (13, 22, 3),
    ),
    "convae-classifier, a code of 5": Case(
        "convae-classifier",
        {"classes": 4, "size": (13, 22), "code": 5},
        originals.conv_classifier,
        {"classes": 4, "size": (13, 22), "channels": 3, "code": 5},
        (13, 22, 3),
    ),
    "vgg16": Case("vgg16", {"widths": NARROW}, vgg16_maps, {"widths": NARROW}, (33, 70, 3)),
    "vgg16, with its top": Case(
        "vgg16",
        {"classes": 4, "size": (32, 70), "widths": NARROW, "hidden": 9},
        originals.vgg16_with_top,
        {"classes": 4, "widths": NARROW, "hidden": 9},
        (33, 70, 3),
    ),
    "vgg16_bn": Case("vgg16_bn", {"widths": NARROW}, vgg16_bn, {"widths": NARROW}, (33, 70, 3)),
    "vgg16_unet": Case(
        "vgg16_unet", {"classes": 4, "blocks": 2}, originals.unet, {"blocks": 2, "classes": 4, "size": (12, 20)}
    ),
    "azavea_unet": Case("azavea_unet", {"classes": 4, "blocks": 3}, originals.azavea, {"classes": 4, "blocks": 3}),
    "jocicmarko_unet": Case(
        "jocicmarko_unet",
        {"classes": 4, "widths": NARROW[:3]},
        originals.jocicmarko,
        {"classes": 4, "widths": NARROW[:3], "up": "transpose"},
    ),
    "jocicmarko_unet, up-sampling": Case(
        "jocicmarko_unet",
        {"classes": 4, "widths": NARROW[:3], "up": "upsample"},
        originals.jocicmarko,
        {"classes": 4, "widths": NARROW[:3], "up": "upsample"},
    ),
    "zhixuhao_unet": Case(
        "zhixuhao_unet",
        {"classes": 4, "widths": NARROW[:3]},
        originals.zhixuhao,
        {"classes": 4, "widths": NARROW[:3]},
    ),
    "shallow_unet": Case(
        "shallow_unet",
        {"classes": 4, "widths": NARROW[:3]},
        originals.shallow,
        {"classes": 4, "widths": NARROW[:3], "features": "seg_feats", "relu_logits": False},
    ),
    "segnet": Case(
        "segnet",
        {"classes": 4, "widths": SEGNET_WIDTHS},
        originals.segnet_layers,
        {"classes": 4, "channels": 3},
        runs=False,
    ),
    "segnet, VGG16's names": Case(
        "segnet",
        {"classes": 4, "widths": SEGNET_WIDTHS},
        originals.segnet_layers,
        {"classes": 4, "channels": 3, "vgg_names": True},
        runs=False,
    ),
    "segnet_basic": Case(
        "segnet_basic",
        {"classes": 4, "width": 8},
        originals.basic_layers,
        {"classes": 4, "channels": 3, "width": 8},
        runs=False,
    ),
    "bayesian_segnet": Case(
        "bayesian_segnet",
        {"classes": 4, "widths": SEGNET_WIDTHS},
        originals.segnet_layers,
        {"classes": 4, "channels": 3},
        runs=False,
    ),
    "vgg_segnet": Case(
        "vgg_segnet",
        {"classes": 4, "widths": FOUR},
        originals.vgg_decoded,
        {"classes": 4, "widths": FOUR, "features": "seg_feats", "skips": False, "relu": False},
        (37, 45, 3),
    ),
    "vgg_unet": Case(
        "vgg_unet",
        {"classes": 4, "widths": FOUR},
        originals.vgg_decoded,
        {"classes": 4, "widths": FOUR, "features": "seg_feats", "skips": True, "relu": True},
        (33, 48, 3),
    ),
    "conv_vae": Case("conv_vae", {"size": (16, 24), **VAE}, originals.conv_vae, VAE, (16, 24, 3)),
    "conv_vae, odd sides": Case("conv_vae", {"size": (13, 22), **VAE}, originals.conv_vae, VAE, (13, 22, 3)),
    "conv_vae, models in a model": Case(
        "conv_vae", {"size": (13, 22), **VAE}, originals.conv_vae, {**VAE, "nested": True}, (13, 22, 3)
    ),
    "encoder_gru": Case(
        "encoder_gru",
        {"size": (13, 22), "outputs": 3, "units": 7, **VAE},
        originals.encoder_gru,
        {"outputs": 3, "units": 7, **VAE},
        (4, 13, 22, 3),
    ),
    "encoder_gru, an encoder without a name": Case(
        "encoder_gru",
        {"size": (16, 24), "outputs": 1, "units": 7, **VAE},
        originals.encoder_gru,
        {"units": 7, "name": None, "steps": 4, **VAE},
        (4, 16, 24, 3),
    ),
    "densenet121": Case(
        "densenet121",
        {"depths": (2, 1, 1, 1)},
        originals.densenet,
        {"classes": None, "depths": (2, 1, 1, 1)},
        (33, 45, 3),
    ),
    "densenet121, with its top": Case(
        "densenet121",
        {"classes": 4, "depths": (2, 1, 1, 1)},
        originals.densenet,
        {"classes": 4, "depths": (2, 1, 1, 1)},
        (33, 45, 3),
    ),
    "densenet121, a head": Case(
        "densenet121",
        {"classes": 7, "head": (9, 8), "pool": "flatten", "size": (64, 96), "depths": (2, 1, 1, 1)},
        originals.densenet,
        {"classes": 7, "head": (9, 8), "pool": "flatten", "depths": (2, 1, 1, 1)},
        (64, 96, 3),
    ),
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def built(case: Case, keras: Any) -> Any:
    """The network in Keras, late in a session, which has numbered other layers before."""
    for _ in range(3):
        keras.layers.Conv2D(1, 1)
        keras.layers.Conv2DTranspose(1, 1)
        keras.layers.Dense(1)
    keras.layers.BatchNormalization()
    keras.layers.GRU(1)
    sized = ("channels", "size")
    shape = {} if any(name in case.arguments for name in sized) else {"shape": case.shape[-3:]}
    return case.build(keras, **shape, **case.arguments)


@pytest.fixture
def files(saved: Any, tmp_path: Path) -> Callable[[Any], list[Path]]:
    """A Keras model in each of the three formats."""

    def write(model: Any) -> list[Path]:
        paths = [saved(model), tmp_path / "model.weights.h5", tmp_path / "model.keras"]
        model.save_weights(paths[1])
        model.save(paths[2])
        return paths

    return write


def answers(model: Any, x: np.ndarray) -> np.ndarray:
    given = model(x, training=False)
    given = given[0] if isinstance(given, (list, tuple)) else given
    return np.asarray(given.detach().numpy())


def assert_equal_arrays(one: Path, other: Path) -> None:
    first, second = bridge.read(one), bridge.read(other)
    assert list(first) == list(second)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@EVERY
def test_every_format_fills_the_model_and_comes_back_bit_for_bit(
    case: Case, keras: Any, randomised: Any, files: Any, images: Any, tmp_path: Path
) -> None:
    model, x = randomised(built(case, keras)), images(2, *case.shape)
    states = []
    for path in files(model):
        module = create(case.model, in_channels=case.shape[-1], **case.options).eval()
        plan = bridge.load(module, path, strict=True)
        ending = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
        assert [note for note in plan.notes if "outputs differ" in note] == []
        back = bridge.save(module, tmp_path / f"back{ending}", like=path)
        assert_equal_arrays(path, back)
        if ending == ".keras":  # which says all that a proof asks for
            report = bridge.verify(module, path)
            assert report.ok, report
            assert not report.not_proved
        states.append(module.state_dict())
    for state in states[1:]:
        assert all(torch.equal(states[0][name], tensor) for name, tensor in state.items())
    if case.runs:
        expected = answers(model, x)
        with torch.inference_mode():
            given = module(torch.from_numpy(np.moveaxis(x, -1, -3))).numpy()
        given = np.moveaxis(given, 1, -1) if given.ndim == 4 else given
        assert np.abs(expected).max() > 1e-3
        size = max(np.abs(expected).max(), 1)  # float32 rounds larger numbers off by more
        np.testing.assert_allclose(given / size, expected / size, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", small_models.EVERY)
def test_what_a_model_alone_writes_is_proved_in_another_layer_by_layer(name: str, tmp_path: Path) -> None:
    model, path = small(name)[0].folded(), tmp_path / "model.h5"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    bridge.save(model, path)
    other = small(name)[0].folded()
    # A file of weights alone does not say it; that of a DenseNet is known by its layers' names.
    told = (float(layer.eps) for layer in model.modules() if hasattr(layer, "eps") and "densenet" not in name)
    epsilon = next(told, None)
    assert not bridge.verify(other, path, epsilon=epsilon).ok
    bridge.load(other, path, strict=True)
    report = bridge.verify(other, path, epsilon=epsilon)
    assert report.ok, report
    assert not report.not_proved
    assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))


def test_every_model_is_here() -> None:
    assert {case.model for case in CASES.values()} == MODELS.keys()
