"""What every model can do: its documented size, and all the ways in which PyTorch runs a model."""

import inspect
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import small_models
import torch
from small_models import small

from torch_convae.errors import ConvaeError
from torch_convae.models import MODELS, create

# What Keras, and where there is none in Keras the original, counts. `statistics` says whether BatchNorm's are in it.
COUNTS: dict[str, tuple[str, dict[str, Any], int, bool]] = {
    "convae": ("convae", {}, 1_758_657, True),
    "convae-classifier": ("convae-classifier", {"classes": 10}, 2_782_570, True),
    "vgg16": ("vgg16", {}, 14_714_688, True),
    "vgg16, with its top": ("vgg16", {"classes": 1000}, 138_357_544, True),
    "vgg16_unet": ("vgg16_unet", {"classes": 6}, 18_636_486, True),
    "azavea_unet": ("azavea_unet", {"classes": 6}, 7_858_598, True),
    "azavea_unet, 6 channels": ("azavea_unet", {"classes": 6, "in_channels": 6}, 7_859_462, True),
    "jocicmarko_unet": ("jocicmarko_unet", {}, 7_759_521, True),
    "jocicmarko_unet, up-sampling": ("jocicmarko_unet", {"up": "upsample"}, 7_846_081, True),
    "zhixuhao_unet": ("zhixuhao_unet", {}, 31_031_685, True),
    "shallow_unet": ("shallow_unet", {"classes": 10}, 471_850, True),
    "shallow_unet, 1 channel": ("shallow_unet", {"classes": 10, "in_channels": 1}, 471_274, True),
    "segnet, 6 classes": ("segnet", {"classes": 6}, 29_446_470, False),
    "segnet, 11 classes": ("segnet", {"classes": 11}, 29_449_355, False),
    "segnet_basic": ("segnet_basic", {"classes": 11}, 1_416_587, False),
    "vgg_segnet": ("vgg_segnet", {"classes": 10}, 11_553_418, True),
    "vgg_unet": ("vgg_unet", {"classes": 10}, 12_327_562, True),
    "encoder_gru": ("encoder_gru", {}, 2_218_081, True),
    "densenet121": ("densenet121", {}, 7_037_504, True),
    "densenet121, 1000 classes": ("densenet121", {"classes": 1000}, 8_062_504, True),
}


def counted(module: torch.nn.Module, statistics: bool = True) -> int:
    running = [buffer for key, buffer in module.named_buffers() if "running_" in key] if statistics else []
    return sum(tensor.numel() for tensor in [*module.parameters(), *running])


def documented(name: str) -> str:
    return " ".join((getattr(MODELS[name], "func", MODELS[name]).__doc__ or "").split())


@pytest.mark.parametrize(("name", "options", "count", "statistics"), COUNTS.values(), ids=COUNTS.keys())
def test_the_number_of_parameters_is_the_documented_one(
    name: str, options: dict[str, Any], count: int, statistics: bool
) -> None:
    with torch.device("meta"):
        model = create(name, **options)
    assert counted(model, statistics) == count
    assert f"{count:,}" in documented(name)


def test_the_two_halves_of_the_vae_have_the_documented_numbers_of_parameters() -> None:
    with torch.device("meta"):
        model = create("conv_vae")
    assert (counted(model.encoder), counted(model.decoder)) == (2_207_424, 510_465)
    assert counted(model.encoder) - counted(model.encoder, statistics=False) == 448
    assert {"2,207,424", "510,465"} <= set(documented("conv_vae").replace(".", "").split())


def test_bayesian_segnet_has_segnets_parameters() -> None:
    with torch.device("meta"):
        plain, bayesian = (create(name, classes=11).state_dict() for name in ("segnet", "bayesian_segnet"))
    assert {name: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in bayesian.items()
    }


# Bayesian SegNet's answer is drawn, and vgg16_bn is vgg16.
CLASSIFIERS = tuple(
    name
    for name in small_models.SMALL
    if "classes" in inspect.signature(MODELS[name]).parameters and name not in ("bayesian_segnet", "vgg16_bn")
)
HALVED = ("vgg_segnet", "vgg_unet")
SAME_SIZE = tuple(name for name in small_models.SMALL if "unet" in name or "segnet" in name)
EVERY = pytest.mark.parametrize("name", small_models.EVERY)
# Compiling and exporting take seconds a model: one of each architecture is enough for every day.
QUICK = "convae vgg16 vgg16_unet zhixuhao_unet segnet_basic vgg_unet conv_vae encoder_gru".split()
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in small_models.EVERY if name not in QUICK]
TRACED = pytest.mark.parametrize("name", [*QUICK, *SLOW])


def test_every_model_is_here() -> None:
    assert small_models.SMALL.keys() == MODELS.keys()


@EVERY
def test_every_layer_has_one_keras_name(name: str) -> None:
    model, _ = small(name)
    layers = {path for path, layer in model.named_modules() if [*layer.parameters(recurse=False)]}
    assert set(model.keras_layers) == layers
    assert len(set(model.keras_layers.values())) == len(layers)


@EVERY
@pytest.mark.parametrize("channels", [1, 4, 6])
def test_images_of_any_number_of_channels_are_taken(name: str, channels: int) -> None:
    model, x = small(name, channels)
    assert model.in_channels == channels
    output = model(x)
    assert output.isfinite().all()
    assert model.predict(torch.randint(0, 256, x.shape)).shape == output.shape


@pytest.mark.parametrize("name", SAME_SIZE)
def test_a_segmentation_has_the_size_of_the_image_and_probabilities_that_sum_to_one(name: str) -> None:
    model, x = small(name)
    height, width = x.shape[2:]
    size = (height // 16 * 8, width // 16 * 8) if name in HALVED else (height, width)
    assert model(x).shape == (2, 3, *size)
    given = model.predict(torch.randint(0, 256, (1, 3, height, width)))
    torch.testing.assert_close(given.sum(1), torch.ones(1, *size))


@pytest.mark.parametrize("name", ["convae", "convae, a code of 5", "conv_vae"])
def test_a_reconstruction_is_an_image_like_the_one_given(name: str) -> None:
    model, x = small(name)
    output = model(x)
    assert output.shape == x.shape
    assert output.min() >= 0
    assert output.max() <= 1


@EVERY
def test_the_memory_format_changes_nothing(name: str) -> None:
    model, x = small(name)
    expected = model(x)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    given = model.to(memory_format=torch.channels_last)(x)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def step(model: Any, x: torch.Tensor) -> None:
    """Gradients of all that a network gives, in training."""
    model.train()
    outputs = model.outputs(x) if hasattr(model, "outputs") else [model(x)]
    sum(output.float().square().mean() for output in outputs).backward()


@EVERY
def test_a_step_trains_every_parameter(name: str) -> None:
    model, x = small(name)
    step(model, x)
    assert [key for key, value in model.named_parameters() if value.grad is None] == []


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@EVERY
@pytest.mark.usefixtures("deterministic")
def test_a_step_in_deterministic_mode_gives_the_same_bits_twice(name: str) -> None:
    gradients = []
    for _ in range(2):
        model, x = small(name)
        step(model, x)
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """PyTorch's compiler and exporter warn of their own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def one_graph(name: str) -> bool:
    """PyTorch compiles what is around a GRU, and leaves the GRU as it is."""
    return name != "encoder_gru"


@TRACED
def test_a_compiled_model_is_one_graph_and_computes_the_same(name: str) -> None:
    model, x = small(name)
    torch.compiler.reset()
    expected = model(x)
    model.compile(fullgraph=one_graph(name), backend="eager")
    assert torch.equal(model(x), expected)


@pytest.mark.slow
@EVERY
def test_gradients_go_through_a_compiled_model(name: str) -> None:
    model, x = small(name)
    torch.compiler.reset()
    model(x).square().mean().backward()
    expected = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    model.compile(fullgraph=one_graph(name), backend="aot_eager")
    model(x).square().mean().backward()
    for key, value in model.named_parameters():
        if key in expected:
            torch.testing.assert_close(value.grad, expected[key], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@EVERY
def test_what_inductor_makes_of_a_model_computes_the_same(name: str) -> None:
    model, x = small(name)
    torch.compiler.reset()
    expected = model(x)
    torch.testing.assert_close(torch.compile(model, fullgraph=one_graph(name))(x), expected, rtol=1e-4, atol=1e-5)


FIXED = ("convae-classifier", "conv_vae", "encoder_gru", "vgg16", "a code of 5", "flattened")  # by Dense layers
POOLED = ("vgg16_bn", "densenet121")
HALVINGS = {"azavea_unet": 4, "zhixuhao_unet": 4, "jocicmarko_unet": 4, "shallow_unet": 4, "vgg_unet": 16}
Export = tuple[torch.export.ExportedProgram, torch.nn.Module, torch.Tensor, torch.Tensor]


def of_any_size(name: str) -> bool:
    return name.startswith("vgg16_") or not any(part in name for part in FIXED)


def exported(name: str) -> Export:
    """The program, the model, and images of the size it was made with and of another one."""
    model, x = small(name)
    if name.startswith(POOLED) and of_any_size(name):  # a map of one place would be taken for one that always is
        x = torch.cat([torch.cat([x, x.flip(3)], 3), torch.cat([x.flip(2), x], 3)], 2)
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    other = x[:1].repeat(3, *(1 for _ in x.shape[1:]))
    if of_any_size(name):
        multiple = next((m for known, m in HALVINGS.items() if name.startswith(known)), 0)
        for axis, side in ((2, "height"), (3, "width")):
            axes[axis] = multiple * torch.export.Dim(f"{side}s", min=1) if multiple else torch.export.Dim.AUTO
            add = multiple or 32
            other = torch.nn.functional.pad(other, (0, add, 0, 0) if axis == 3 else (0, 0, 0, add), "replicate")
    program = torch.export.export(model, (x,), dynamic_shapes=(axes,))
    return program, model, x, other


@TRACED
def test_an_exported_model_computes_the_same_for_other_batches_and_sizes(name: str) -> None:
    program, model, x, other = exported(name)
    torch.testing.assert_close(program.module()(x), model(x))
    torch.testing.assert_close(program.module()(other), model(other))


@pytest.mark.slow
@EVERY
def test_onnx_computes_the_same(name: str) -> None:
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    program, model, x, other = exported(name)
    file = io.BytesIO()
    torch.onnx.export(program, (x,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for images in (x, other):
        given = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        np.testing.assert_allclose(given, model(images).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_one_class_has_the_sigmoid_of_its_logit_for_a_probability(name: str) -> None:
    model, images = small(name, classes=1)
    torch.testing.assert_close(model.predict(images), torch.sigmoid(model(model.preprocessing(images))))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("vgg16", {"batch_norm": "no"}, "takes True or False for batch_norm, not 'no'"),
    ("densenet121", {"keras": 0}, "takes True or False for keras, not 0"),
    ("vgg_unet", {"classes": 2, "relu": "false"}, "takes True or False for relu, not 'false'"),
    ("conv_vae", {"widths": ()}, "takes whole numbers of at least 1 for widths, not ()"),
    ("segnet", {"classes": 2, "widths": 8}, "takes whole numbers of at least 1 for widths, not 8"),
    ("zhixuhao_unet", {"dropout": "half"}, "takes a share of at least 0 and less than 1 for dropout, not 'half'"),
    ("bayesian_segnet", {"classes": 2, "dropout": float("nan")}, "less than 1 for dropout, not nan"),
    ("shallow_unet", {"classes": 2, "dropout": 1.5}, "less than 1 for dropout, not 1.5"),
    ("convae", {"noise": float("inf")}, "takes a standard deviation of 0 or more for noise, not inf"),
    ("convae", {"noise": (1, 2)}, "takes a standard deviation of 0 or more for noise, not (1, 2)"),
    ("vgg16_unet", {"classes": 2, "blocks": 2, "scales": (1, float("nan"))}, "takes numbers for scales, not (1, nan)"),
    ("vgg16_unet", {"classes": 2, "scales": 3.0}, "takes numbers for scales, not 3.0"),
    ("vgg16_unet", {"classes": 2, "blocks": 2, "scales": (1, "a")}, "takes numbers for scales, not (1, 'a')"),
    ("conv_vae", {"size": True}, "takes a height and a width, or one number for both, for size, not True"),
    ("convae-classifier", {"classes": 1_000_000_000}, "takes at most 1,000,000 for classes, not 1000000000"),
    ("segnet_basic", {"classes": 3, "width": 1_000_000}, "does not fit into memory with classes=3, width=1000000"),
    ("convae", {"code": 9, "size": 1_000_000}, "does not fit into memory with code=9, size=1000000"),
]


@pytest.mark.parametrize(("name", "options", "said"), REFUSED)
def test_an_option_of_another_kind_is_refused_in_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        create(name, **options)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{name} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", small_models.SMALL)
@pytest.mark.parametrize("axis", [-1, -2, 1])
def test_an_empty_image_and_a_sequence_without_frames_are_refused(name: str, axis: int) -> None:
    model, x = small(name)
    empty = x.narrow(axis, 0, 0)
    with pytest.raises(ConvaeError):
        model(empty)
