"""Gates that a file says nothing of: those of its Keras are noted and proved, whatever the module was built with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge import rnn

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]


@pytest.fixture
def file(written: Write, numbers: Draw) -> Callable[..., Path]:
    """A recurrent layer of 3 inputs and 4 units by itself, of that Keras, and with a bias of that shape."""

    def write(kind: str, version: str, bias: tuple[int, ...] | None = None) -> Path:
        gates = 4 if kind == "LSTM" else 3
        weights = {"kernel": numbers(3, 4 * gates), "recurrent_kernel": numbers(4, 4 * gates, seed=1)}
        weights["bias"] = numbers(*(bias or (4 * gates,)), seed=2)
        return written({"r": {f"r/{role}:0": array for role, array in weights.items()}}, keras_version=version)

    return write


def hard(kind: str, **options: Any) -> nn.ModuleDict:
    return nn.ModuleDict({"r": getattr(rnn, kind)(3, 4, recurrent_activation="hard_sigmoid", **options)})


def soft(kind: str, **options: Any) -> nn.ModuleDict:
    return nn.ModuleDict({"r": getattr(rnn, kind)(3, 4, recurrent_activation="sigmoid", **options)})


def torchs(kind: str) -> nn.ModuleDict:
    return nn.ModuleDict({"r": getattr(nn, kind)(3, 4, batch_first=True)})


TWOFOLD = (2, 12)
CASES: dict[str, tuple[str, str, nn.Module, str]] = {
    "LSTM 2.2.4 torch": (
        "LSTM",
        "2.2.4",
        torchs("LSTM"),
        "sigmoid gates; Keras 2.2.4's LSTM has hard_sigmoid",
    ),
    "LSTM 2.2.4 hard": ("LSTM", "2.2.4", hard("LSTM"), ""),
    "LSTM 2.3.1 torch": ("LSTM", "2.3.1", torchs("LSTM"), ""),
    "LSTM 2.3.1 hard": ("LSTM", "2.3.1", hard("LSTM"), "hard_sigmoid gates; Keras 2.3.1's LSTM has sigmoid"),
    "LSTM 3.15.0 hard": ("LSTM", "3.15.0", hard("LSTM"), "Keras 3.15.0's LSTM has sigmoid ones unless"),
    "GRU 2.15.0 hard": ("GRU", "2.15.0", hard("GRU"), "recurrent_activation='sigmoid') has them"),
    "GRU 2.15.0 sigmoid": ("GRU", "2.15.0", soft("GRU"), ""),
    "GRU 2.2.4 sigmoid": ("GRU", "2.2.4", soft("GRU"), "recurrent_activation='hard_sigmoid') has them"),
}


@pytest.mark.parametrize(("kind", "version", "module", "note"), CASES.values(), ids=CASES.keys())
def test_gates_that_are_not_those_of_its_keras_are_noted_and_not_called_proved(
    kind: str, version: str, module: nn.Module, note: str, file: Callable[..., Path]
) -> None:
    path = file(kind, version)
    plan = bridge.load(module, path)
    gates = [each for each in plan.notes if "gates" in each]
    assert len(gates) == bool(note)
    assert note in "".join(gates)
    report = bridge.verify(module, path)
    assert report.plan.verified == (not note)
    # A module of ours was built with them, perhaps for good reason; torch's own has no others.
    assert [proof.verdict for proof in report.layers] == [
        "same" if not note else "differs" if isinstance(module["r"], nn.LSTM) else "not proved"
    ]


@pytest.mark.parametrize(
    ("kind", "version", "bias"), [("LSTM", "2.2.4-tf", None), ("GRU", "2.1.6", TWOFOLD), ("GRU", "2.2.4-tf", None)]
)
def test_where_two_kerases_write_the_same_it_is_said_and_either_may_be_right(
    kind: str, version: str, bias: tuple[int, ...] | None, file: Callable[..., Path]
) -> None:
    """TensorFlow 1.15 and 2.0 both say 2.2.4-tf, and changed the gates between them."""
    options = {"reset_after": bias is not None} if kind == "GRU" else {}
    for module in (hard(kind, **options), soft(kind, **options)):
        path = file(kind, version, bias)
        plan = bridge.load(module, path)
        assert any("may have hard_sigmoid or sigmoid ones" in note for note in plan.notes)
        assert bridge.verify(module, path).ok


@pytest.mark.parametrize("version", ["2.1.6", "2.2.4", "2.3.1"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_of_cudnn_are_sigmoid_in_every_keras(kind: str, version: str, file: Callable[..., Path]) -> None:
    path = file(kind, version, (8 * (4 if kind == "LSTM" else 3),))
    module = torchs(kind)
    assert not [note for note in bridge.load(module, path).notes if "gates" in note]
    assert bridge.verify(module, path).ok
    wrong = hard(kind, **({"reset_after": True} if kind == "GRU" else {}))
    with pytest.raises(bridge.BridgeError, match="computes with recurrent_activation='sigmoid', and"):
        bridge.load(wrong, path)


def test_what_a_refusal_tells_to_build_is_right(keras: Any, saved: Any, randomised: Any, images: Any) -> None:
    """The file says nothing of its gates, and the module that is advised has those of its Keras."""
    model = randomised(keras.Sequential([keras.Input((7, 3)), keras.layers.GRU(4, reset_after=False, name="r")]))
    path = saved(model, weights_only=True)
    with pytest.raises(
        bridge.BridgeError, match=r"bridge\.rnn\.GRU\(input_size, hidden_size, (.*)\), or skip"
    ) as caught:
        bridge.load(torchs("GRU"), path)
    said = str(caught.value).partition("hidden_size, ")[2].partition("), or skip")[0]
    assert said == "recurrent_activation='sigmoid', reset_after=False"
    module = soft("GRU")
    bridge.load(module, path)
    x = images(2, 7, 3)
    with torch.inference_mode():
        found = module["r"](torch.from_numpy(x))[0][:, -1]
    np.testing.assert_allclose(found.numpy(), model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_converting_says_which_gates_an_old_file_may_have(file: Callable[..., Path], tmp_path: Path) -> None:
    done = bridge.convert(file("LSTM", "2.2.4"), tmp_path / "w.safetensors")
    assert any("r has gates: Keras 2.2.4's LSTM has hard_sigmoid ones" in note for note in done.notes)
    assert not [note for note in bridge.convert(file("LSTM", "2.3.1"), tmp_path / "w.pt").notes if "gates" in note]


def test_the_way_through_time_is_the_files(keras: Any, saved: Any, randomised: Any) -> None:
    """A module may turn its input round by itself; one that goes backwards where Keras does not, is wrong."""
    model = randomised(keras.Sequential([keras.Input((7, 3)), keras.layers.LSTM(4, go_backwards=True, name="r")]))
    path = saved(model)
    forwards = nn.ModuleDict({"r": nn.LSTM(3, 4, batch_first=True)})
    assert any("turns its steps round" in note for note in bridge.load(forwards, path).notes)
    backwards = soft("LSTM", go_backwards=True)
    assert not bridge.load(backwards, path).notes
    assert bridge.verify(backwards, path).ok
    other = saved(randomised(keras.Sequential([keras.Input((7, 3)), keras.layers.LSTM(4, name="r")])))
    assert any("the file's layer goes forwards" in note for note in bridge.load(backwards, other).notes)
    assert bridge.verify(backwards, other).first is not None


def test_both_directions_of_one_module_need_no_note(keras: Any, saved: Any, randomised: Any) -> None:
    layer = keras.layers.Bidirectional(keras.layers.LSTM(4), name="r")
    path = saved(randomised(keras.Sequential([keras.Input((7, 3)), layer])))
    module = nn.ModuleDict({"r": nn.LSTM(3, 4, batch_first=True, bidirectional=True)})
    assert not [note for note in bridge.load(module, path, strict=True).notes if "backwards" in note]
