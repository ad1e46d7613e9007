"""torch_convae.features in Python: which tensor a name stands for, and what the model is like afterwards."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import torchvision
from torch import nn

import torch_convae
from torch_convae import ConvaeError
from torch_convae.layers import find, layers
from torch_convae.verbs.sources import input_shape

from .conftest import EVERY, small


@EVERY
def test_every_layer_of_every_model_gives_what_the_list_says(name: str) -> None:
    model = small(name)
    shape = input_shape(model, (32, 32))
    known, x = layers(model, shape), torch.randn(2, *shape)
    given = torch_convae.features(model, x, [layer.name for layer in known])
    assert {name: tuple(rows.shape) for name, rows in given.items()} == {
        layer.name: (2, *layer.shape) for layer in known
    }
    output = model(x)
    assert any(torch.equal(rows, output) for rows in list(given.values())[-1:])


@EVERY
def test_every_layer_with_weights_is_listed_under_its_keras_name_and_its_path(name: str) -> None:
    model = small(name)
    known = layers(model, input_shape(model, (32, 32)))
    names = {layer.name for layer in known}
    assert len(names) == len(known)
    for path, keras in model.keras_layers.items():
        if keras == "z_log_var":
            continue  # the reconstruction is made without it
        assert keras in names, path
        assert path in names or find(known, path).name in (keras, f"{keras}:pre")


def test_a_keras_name_is_after_the_activation_and_a_torchvision_name_is_that_modules_output() -> None:
    model = torchvision.models.vgg16().eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = nn.Sequential(*list(model.features)[:29])(x).clone()
    given = torch_convae.features(model, x, ["block5_conv3", "block5_conv3:pre", "features.28", "features.29"])
    assert float(before.min()) < 0
    for name, expected in (
        ("block5_conv3", before.relu()),
        ("block5_conv3:pre", before),
        ("features.28", before),  # although the ReLU behind it works in place
        ("features.29", before.relu()),
    ):
        assert torch.equal(given[name], expected), name


def test_our_vgg16_has_torchvisions_names_too() -> None:
    model = small("vgg16")
    theirs = torchvision.models.vgg16(num_classes=3)
    known = layers(model, (3, 32, 32))
    for path, layer in theirs.features.named_children():
        kind = {"Conv2d": "Conv2D", "ReLU": "Conv2D", "MaxPool2d": "MaxPooling2D"}[type(layer).__name__]
        assert find(known, f"features.{path}").kind == kind
    assert find(known, "classifier.4").name == "fc2"
    assert find(known, "features.30").name == "block5_pool"


def test_the_order_and_the_pooling_are_as_asked() -> None:
    model, x = small("convae-classifier"), torch.randn(2, 1, 32, 32)
    plain = torch_convae.features(model, x, "conv2d_7")["conv2d_7"]
    for pool, order, expected in (
        ("avg", "chw", plain.mean((2, 3))),
        ("max", "hwc", plain.amax((2, 3))),
        ("flatten", "chw", plain.flatten(1)),
        ("flatten", "hwc", plain.permute(0, 2, 3, 1).flatten(1)),
        (None, "hwc", plain.permute(0, 2, 3, 1)),
    ):
        given = torch_convae.features(model, x, "conv2d_7", pool=pool, order=order)["conv2d_7"]
        assert torch.equal(given, expected), (pool, order)


def test_images_of_bytes_pass_the_models_preprocessing() -> None:
    model = small("vgg16")
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    given = torch_convae.features(model, images, "predictions")["predictions"]
    assert torch.equal(given, model(model.preprocessing(images)))
    with pytest.raises(ConvaeError, match="does not say how images are prepared"):
        torch_convae.features(torchvision.models.vgg11(), images, "features.0")


def test_the_model_is_left_as_it_was() -> None:
    model = small("vgg16_unet")
    model.decoder.train()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for known, name in ((True, "conv_3_1"), (False, "no_such_layer")):
        with nullcontext() if known else pytest.raises(ConvaeError):
            torch_convae.features(model, torch.randn(1, 3, 32, 32), name)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert {parameter.requires_grad for parameter in model.encoder.parameters()} == {False}


def test_features_can_be_trained_on() -> None:
    given = torch_convae.features(small("vgg16"), torch.randn(2, 3, 32, 32), "block5_pool", pool="avg")["block5_pool"]
    head = nn.Linear(512, 2)
    head(given).sum().backward()
    assert head.weight.grad is not None


def test_what_is_behind_the_last_layer_is_not_computed() -> None:
    model = small("vgg16")
    model.head.fc1.register_forward_hook(lambda *_: pytest.fail("the head was computed"))
    called = []
    model.encoder.block1_conv1.register_forward_hook(lambda *_: called.append(True))
    with pytest.raises(pytest.fail.Exception):  # once more than the shapes alone
        torch_convae.features(model, torch.randn(1, 3, 32, 32), "fc1")


@pytest.mark.parametrize(
    ("names", "nearest"),
    [("block5_conv4", "block5_conv3"), ("features.99", "features."), ("fc7", "fc"), ([], "No layer"), ("relu", "")],
)
def test_an_unknown_layer_is_refused_with_the_nearest_names(names: str | list[str], nearest: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        torch_convae.features(small("vgg16"), torch.randn(1, 3, 32, 32), names)
    assert nearest in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_module_has_its_paths_and_functions_as_names() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.first(x))
            return torch.sigmoid(self.act(-x + 1)).flatten(1)

    net, x = Net(), torch.randn(1, 3, 5, 5)
    given = torch_convae.features(net, x, ["first", "act:1", "act:2", "sigmoid", "flatten"])
    first = net.first(x)
    assert torch.equal(given["first"], first)
    assert torch.equal(given["act:1"], first.relu())
    assert torch.equal(given["act:2"], (1 - first.relu()).relu())
    assert torch.equal(given["flatten"], given["sigmoid"].flatten(1))


def test_the_function_and_the_command_share_a_name() -> None:
    code = (
        "import torch_convae.features, torch_convae.features.__main__, torch_convae\n"
        "from torch_convae import features\n"
        "from torch_convae.features import features as same\n"
        "assert features is same is torch_convae.features, features\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
