"""Whole modules held against outputs: those that were recorded, and those that Keras gives now."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge import BridgeError
from bridge.verify import verify


@pytest.fixture
def classifier(keras: Any, randomised: Any, saved: Any, chain: Any) -> tuple[Any, nn.Module, Path]:
    """A Keras model that ends in a softmax, its file, and a module that leaves it out."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="fc"),
        ]
    )
    path = saved(randomised(model))
    module = chain(("conv", nn.Conv2d(3, 4, 3)), ("", nn.ReLU()), ("", nn.Flatten()), ("fc", nn.Linear(96, 5)))
    bridge.load(module, path)
    return model, module, path


def given(model: Any, *inputs: np.ndarray) -> np.ndarray:
    return np.asarray(model(*inputs, training=False).detach().numpy())


def test_outputs_recorded_elsewhere_are_held_against_the_modules(
    classifier: Any, images: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    model, module, path = classifier
    x = images(2, 8, 6, 3)
    np.savez(tmp_path / "recorded.npz", x=x, y=given(model, x))
    report = verify(module, path, reference=tmp_path / "recorded.npz")
    (output,) = report.outputs
    assert (report.ok, output.verdict, output.place) == (True, "same", "recorded.npz")
    assert output.reason == "behind a softmax, which the module leaves out"
    module.state_dict()["fc.bias"][1] += 0.1
    report = verify(module, path, reference={"input": x, "output": given(model, x)})
    assert [proof.name for proof in (*report.layers, *report.outputs) if proof.verdict == "differs"] == [
        "fc",
        "output 0",
    ]


def test_feature_maps_of_several_outputs_are_compared_in_order(
    keras: Any, randomised: Any, saved: Any, images: Callable[..., np.ndarray]
) -> None:
    inputs = keras.Input((8, 6, 3))
    a = keras.layers.Conv2D(4, 3, name="a")(inputs)
    b = keras.layers.Conv2D(4, 1, name="b")(a)
    model = randomised(keras.Model(inputs, [a, b]))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            a = self.a(x)
            return [a, self.b(a)]

    module, path, x = Two(), saved(model), images(2, 8, 6, 3)
    bridge.load(module, path)
    first, second = (each.detach().numpy() for each in model(x, training=False))
    good = {"input_0": x, "output_0": first, "output_1": second}
    assert [proof.verdict for proof in verify(module, path, reference=good).outputs] == ["same", "same"]
    swapped = {"x": x, "y_0": second, "y_1": first}
    assert [proof.verdict for proof in verify(module, path, reference=swapped).outputs] == ["differs", "differs"]
    more = good | {"output_2": first}
    assert verify(module, path, reference=more).outputs[2].reason == "the module gives 2 outputs, not 3"


def test_sequences_are_given_as_the_module_takes_them(
    keras: Any, randomised: Any, saved: Any, chain: Any, images: Callable[..., np.ndarray]
) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cell(x)[0][:, -1]

    x = images(2, 5, 3)
    model = randomised(keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="cell")]))
    module, path = Last(), saved(model)
    bridge.load(module, path)
    assert verify(module, path, reference={"x": x, "y": given(model, x)}, keras=True).ok
    model = randomised(keras.Sequential([keras.Input((5, 3)), keras.layers.Conv1D(4, 2, name="conv")]))
    module, path = chain(("conv", nn.Conv1d(3, 4, 2))), saved(model, "conv.h5")
    bridge.load(module, path)
    assert verify(module, path, reference={"x": x, "y": given(model, x)}, keras=True).ok


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_keras_model_of_the_file_is_run_beside_the_module(
    classifier: Any, saved: Any, tmp_path: Path, suffix: str
) -> None:
    model, module, path = classifier
    if suffix == ".keras":  # Keras goes by the name; we do not
        path = saved(model, "model.keras").rename(tmp_path / "model.dat")
    report = verify(module.train(), path, keras=True)
    assert report.ok
    assert module.training
    assert report.outputs[0].place.startswith("Keras 3.")


def test_a_model_is_built_for_weights_whose_configuration_is_at_hand(saved: Any, classifier: Any) -> None:
    model, module, _ = classifier
    source = bridge.read(saved(model, "weights.h5", weights_only=True))
    known = replace(source, architecture=json.loads(model.to_json()))
    assert [proof.verdict for proof in verify(module, known, keras=True).outputs] == ["same"]


def test_a_whole_encoder_is_compared_where_the_file_is_of_a_part(
    keras: Any, randomised: Any, saved: Any, chain: Any
) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, name="conv")])))
    module = nn.ModuleDict({"encoder": chain(("conv", nn.Conv2d(3, 4, 3)))})
    bridge.load(module, path, prefix="encoder")
    assert verify(module, path, prefix="encoder", keras=True).ok


def test_numbers_of_words_go_into_an_embedding(keras: Any, randomised: Any, saved: Any, chain: Any) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((5,)), keras.layers.Embedding(7, 3, name="words")])))
    module = chain(("words", nn.Embedding(7, 3)))
    bridge.load(module, path)
    assert verify(module, path, keras=True).ok


def test_without_keras_the_way_to_get_it_is_said(classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # an import of it fails
    with pytest.raises(BridgeError, match=r"Keras is not installed .*pip install 'torch-convae\[keras\]'"):
        verify(*classifier[1:], keras=True)


def test_code_in_a_file_is_not_run(keras: Any, saved: Any, chain: Any, randomised: Any) -> None:
    layers = [keras.Input((3,)), keras.layers.Dense(2, name="fc"), keras.layers.Lambda(lambda x: x)]
    path = saved(randomised(keras.Sequential(layers)))
    module = chain(("fc", nn.Linear(3, 2)))
    bridge.load(module, path)
    assert verify(module, path).ok
    with pytest.raises(BridgeError, match="it holds a Lambda layer, and code in a file is not run"):
        verify(module, path, keras=True)


@pytest.mark.parametrize(
    "change",
    [
        {"flip_input": True},
        {"in_channels": 1},
        {"in_channels": 6},
        {"in_channels": 1, "flip_input": True},
        {"classes": (list("abcde"), list("ebadc"))},
        {"classes": (list("abcde"), list("db"))},
    ],
    ids=str,
)
@pytest.mark.parametrize("softmax", [True, False])
def test_adapted_weights_are_held_against_what_the_change_keeps(
    change: dict[str, Any], softmax: bool, classifier: Any, keras: Any, saved: Any, chain: Any
) -> None:
    model, _, path = classifier
    if not softmax:
        model.get_layer("fc").activation = keras.activations.linear
        path = saved(model)
    channels, classes = change.get("in_channels", 3), len(change.get("classes", ("", "abcde"))[1])
    steps = ("conv", nn.Conv2d(channels, 4, 3)), ("", nn.ReLU()), ("", nn.Flatten()), ("fc", nn.Linear(96, classes))
    module = chain(*steps)
    bridge.load(module, path, **change)
    report = verify(module, path, keras=True, **change)
    assert report.ok, report
    assert len(report.outputs) == 1
    module.state_dict()["fc.bias"][0] += 0.1
    assert not verify(module, path, keras=True, **change).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 4}, r"3 channels as 4 keep no output to compare"),
        ({"classes": (list("abcde"), {"x": ["a", "b"], "y": "c"})}, r"no output of classes that are new or merged"),
        ({"in_channels": 1}, r"its images have channels that differ"),
    ],
    ids=["four channels", "merged classes", "colours"],
)
def test_outputs_that_no_change_keeps_are_refused(
    change: dict[str, Any], message: str, classifier: Any, chain: Any, images: Any
) -> None:
    model, _, path = classifier
    channels, classes = change.get("in_channels", 3), 2 if "classes" in change else 5
    steps = ("conv", nn.Conv2d(channels, 4, 3)), ("", nn.ReLU()), ("", nn.Flatten()), ("fc", nn.Linear(96, classes))
    module, x = chain(*steps), images(2, 8, 6, 3)
    bridge.load(module, path, **change)
    with pytest.raises(BridgeError, match=message):
        verify(module, path, reference={"x": x, "y": given(model, x)}, **change)


def test_images_of_bytes_are_taken_as_keras_takes_them(classifier: Any, images: Any) -> None:
    model, module, path = classifier
    x = (np.abs(images(2, 8, 6, 3)) * 20).astype(np.uint8)
    assert verify(module, path, reference={"x": x, "y": given(model, x.astype(np.float32))}).ok


def test_no_samples_prove_nothing(classifier: Any) -> None:
    _, module, path = classifier
    with pytest.raises(BridgeError, match="x holds no samples, which prove nothing"):
        verify(module, path, reference={"x": np.zeros((0, 8, 6, 3)), "y": np.zeros((0, 5))})


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"module": "os", "class_name": "system", "config": "true"}, "it names os.system"),
        ({"module": "keras.utils", "class_name": "get_file"}, "it names keras.utils.get_file"),
        ({"module": "builtins", "class_name": "function", "config": "a.b"}, "it holds a function"),
    ],
)
def test_names_of_code_in_a_configuration_are_refused(classifier: Any, planted: dict[str, str], said: str) -> None:
    _, module, path = classifier
    source = bridge.read(path)
    config = json.loads(json.dumps(source.architecture))
    config["config"]["layers"][-1]["config"]["activation"] = planted
    with pytest.raises(BridgeError, match=said):
        verify(module, replace(source, architecture=config), keras=True)


def test_a_file_without_a_model_cannot_be_run(keras: Any, saved: Any, chain: Any, randomised: Any) -> None:
    path = saved(randomised(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])), weights_only=True)
    module = chain(("fc", nn.Linear(3, 2)))
    bridge.load(module, path)
    with pytest.raises(BridgeError, match=r"model\.h5 holds no Keras model to run"):
        verify(module, path, keras=True)


BAD = {
    "is not there": (None, "does not exist"),
    "is no .npz": (b"not a zip", "is not an .npz file of numbers"),
    "has other names": ({"a": np.zeros(1)}, "holds a. Save the inputs as x and the outputs as y"),
    "does not fit": ({"x": np.zeros((1, 9)), "y": np.zeros(1)}, r"does not take inputs of \(1, 9\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_reference_that_cannot_be_used_is_refused(classifier: Any, tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "outputs.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(BridgeError, match=message) as refused:
        verify(*classifier[1:], reference=path)
    assert "\n" not in str(refused.value)
