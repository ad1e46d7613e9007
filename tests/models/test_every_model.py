"""What every U-Net and SegNet can do: its documented size, and all the ways in which PyTorch runs a model."""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from torch_convae.models import MODELS, create

# What Keras, and where there is none in Keras the original, counts. `statistics` says whether BatchNorm's are in it.
COUNTS: dict[str, tuple[str, dict[str, Any], int, bool]] = {
    "azavea_unet": ("azavea_unet", {"classes": 6}, 7_858_598, True),
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
}


@pytest.mark.parametrize(("name", "options", "count", "statistics"), COUNTS.values(), ids=COUNTS.keys())
def test_the_number_of_parameters_is_the_documented_one(
    name: str, options: dict[str, Any], count: int, statistics: bool
) -> None:
    with torch.device("meta"):
        model = create(name, **options)
    running = [buffer for key, buffer in model.named_buffers() if "running_" in key] if statistics else []
    assert sum(tensor.numel() for tensor in [*model.parameters(), *running]) == count
    assert f"{count:,}" in " ".join((MODELS[name].__doc__ or "").split())


def test_bayesian_segnet_has_segnets_parameters() -> None:
    with torch.device("meta"):
        plain, bayesian = (create(name, classes=11).state_dict() for name in ("segnet", "bayesian_segnet"))
    assert {name: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in bayesian.items()
    }


SEGNET = {"classes": 3, "widths": (4, 6, 8, 10, 12)}
SMALL: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "azavea_unet": ({"classes": 3, "blocks": 3}, (12, 20)),
    "jocicmarko_unet": ({"classes": 3, "widths": (4, 6, 8)}, (12, 20)),
    "zhixuhao_unet": ({"classes": 3, "widths": (4, 6, 8)}, (12, 20)),
    "shallow_unet": ({"classes": 3, "widths": (4, 6, 8)}, (12, 20)),
    "segnet": (SEGNET, (45, 38)),
    "segnet_basic": ({"classes": 3, "width": 8}, (45, 38)),
    "bayesian_segnet": (SEGNET, (45, 38)),
    "vgg_segnet": ({"classes": 3, "widths": (4, 6, 8, 10)}, (37, 48)),
    "vgg_unet": ({"classes": 3, "widths": (4, 6, 8, 10)}, (33, 48)),
}
HALVED = ("vgg_segnet", "vgg_unet")
EVERY = pytest.mark.parametrize("name", SMALL)


def small(name: str, channels: int = 3) -> tuple[torch.nn.Module, torch.Tensor]:
    """The model in evaluation mode, with statistics unlike those it starts with, and two images."""
    torch.manual_seed(0)
    options, size = SMALL[name]
    model = create(name, in_channels=channels, **options).eval()
    for buffer_name, buffer in model.named_buffers():
        if "running_" in buffer_name:
            buffer.uniform_(0.5, 1.5)
    return model, torch.randn(2, channels, *size)


def test_every_network_for_segmentation_is_here() -> None:
    assert SMALL.keys() == {name for name in MODELS if "unet" in name or "segnet" in name} - {"vgg16_unet"}


@EVERY
def test_every_layer_has_one_keras_name(name: str) -> None:
    model, _ = small(name)
    layers = {path for path, layer in model.named_modules() if [*layer.parameters(recurse=False)]}
    assert set(model.keras_layers) == layers
    assert len(set(model.keras_layers.values())) == len(layers)


@EVERY
@pytest.mark.parametrize("channels", [1, 6])
def test_images_of_any_number_of_channels_give_logits_of_their_size(name: str, channels: int) -> None:
    model, x = small(name, channels)
    height, width = x.shape[2:]
    size = (height // 16 * 8, width // 16 * 8) if name in HALVED else (height, width)
    assert model(x).shape == (2, 3, *size)
    given = model.predict(torch.randint(0, 256, (1, channels, height, width)))
    torch.testing.assert_close(given.sum(1), torch.ones(1, *size))


@EVERY
def test_the_memory_format_changes_nothing(name: str) -> None:
    model, x = small(name)
    expected = model(x)
    given = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


@EVERY
def test_a_step_trains_every_parameter(name: str) -> None:
    model, x = small(name)
    torch.nn.functional.cross_entropy(model.train()(x), torch.zeros(2, *model(x).shape[2:]).long()).backward()
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
        model.train()(x).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def exported(model: torch.nn.Module, x: torch.Tensor) -> torch.export.ExportedProgram:
    """The model for batches of any size."""
    with warnings.catch_warnings():  # PyTorch's, of its own code
        warnings.simplefilter("ignore")
        return torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))


@EVERY
def test_an_exported_model_computes_the_same(name: str) -> None:
    model, x = small(name)
    program, one = exported(model, x).module(), x[:1].repeat(3, 1, 1, 1)
    assert torch.equal(program(x), model(x))
    torch.testing.assert_close(program(one), model(one))


@EVERY
@pytest.mark.slow
def test_onnx_computes_the_same(name: str) -> None:
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    model, x = small(name)
    file = io.BytesIO()
    with warnings.catch_warnings():  # PyTorch's, of its own code
        warnings.simplefilter("ignore")
        torch.onnx.export(exported(model, x), (x,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    given = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(given, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.slow
def test_a_compiled_model_computes_the_same(name: str) -> None:
    model, x = small(name)
    expected = model(x)
    with warnings.catch_warnings():  # PyTorch's, of its own code
        warnings.simplefilter("ignore")
        given = torch.compile(model, fullgraph=True)(x)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
