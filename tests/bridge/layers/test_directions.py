"""The two directions of a recurrent layer: each where it belongs, whatever the user called the two layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def two_ways(kind: str = "LSTM") -> nn.Module:
    layer: nn.Module = getattr(nn, kind)(4, 5, batch_first=True, bidirectional=True)
    return layer


def held(model: Any) -> list[np.ndarray]:
    return [weight.value.detach().numpy().copy() for weight in model.weights]


def assert_comes_back(model: Any, path: Path) -> None:
    """Loading the file gives every weight of the model as it is, after all were zero."""
    before = held(model)
    for weight in model.weights:
        weight.assign(np.zeros(tuple(weight.shape), np.float32))
    model.load_weights(path)
    for one, other in zip(before, held(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("first", "second"), [("ahead", "back"), ("a", "forward_b"), ("backward_a", "b")])
def test_a_second_layer_of_the_users_own_goes_backwards_whatever_it_is_called(
    first: str, second: str, form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    both = layers.Bidirectional(
        layers.LSTM(5, return_sequences=True, name=first),
        backward_layer=layers.LSTM(5, return_sequences=True, go_backwards=True, name=second),
        name="both",
    )
    model = randomised(keras.Sequential([layers.Input((6, 4)), both]))
    path, module = file_of(model, form, saved, tmp_path), tree(both=two_ways())
    assert bridge.load(module, path, strict=True).skipped == ()
    assert bridge.verify(module, path).ok
    x = torch.randn(2, 6, 4)
    with torch.inference_mode():
        np.testing.assert_allclose(module.both(x)[0], model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)

    ending = ".h5" if form in ("whole", "weights") else form
    assert_comes_back(model, bridge.save(module, tmp_path / f"back{ending}", like=path))
    converted, other = tmp_path / "both.safetensors", tree(both=two_ways())
    bridge.convert(path, converted)
    bridge.load(other, converted, strict=True)
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))
    bridge.convert(converted, tmp_path / f"again{ending}", like=path)
    assert_comes_back(model, tmp_path / f"again{ending}")


@pytest.mark.parametrize("form", FORMS)
def test_a_second_layer_of_the_users_own_in_a_model_in_a_model(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    x = inputs = layers.Input((6, 4))
    back = layers.GRU(5, go_backwards=True, name="back")
    x = layers.Bidirectional(layers.GRU(5, name="ahead"), backward_layer=back, name="both")(x)
    inner = keras.Model(inputs, layers.Dense(3, name="head")(x), name="inner")
    inputs = layers.Input((6, 4))
    model = randomised(keras.Model(inputs, inner(inputs)))
    module = tree(inner=tree(both=two_ways("GRU"), head=nn.Linear(10, 3)))
    path = file_of(model, form, saved, tmp_path)
    assert bridge.load(module, path, strict=True).skipped == ()
    x = torch.randn(2, 6, 4)
    with torch.inference_mode():
        last = module.inner.both(x)[1]
        given = module.inner.head(torch.cat([last[0], last[1]], -1))
    np.testing.assert_allclose(given, model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)


def test_a_second_layer_that_computes_otherwise_is_refused_by_its_own_configuration(
    keras: Any, randomised: Any, saved: Any
) -> None:
    layers = keras.layers
    back = layers.LSTM(5, activation="relu", go_backwards=True, name="back")
    both = layers.Bidirectional(layers.LSTM(5), backward_layer=back, name="both")
    path = saved(randomised(keras.Sequential([layers.Input((6, 4)), both])))
    with pytest.raises(bridge.BridgeError, match="both/backward_back computes with activation='relu'"):
        bridge.load(tree(both=two_ways()), path)


def test_a_second_layer_in_a_subclassed_model_goes_backwards(keras: Any, randomised: Any, tmp_path: Path) -> None:
    layers = keras.layers

    class Reader(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            back = layers.LSTM(5, go_backwards=True, name="back")
            self.words = layers.Bidirectional(layers.LSTM(5, name="ahead"), backward_layer=back, name="words")

        def call(self, x: Any) -> Any:
            return self.words(x)

    model, x, path = Reader(), torch.randn(2, 6, 4), tmp_path / "reader.weights.h5"
    model(x.numpy())
    randomised(model).save_weights(path)
    module = tree(words=two_ways())
    bridge.load(module, path, strict=True)
    with torch.inference_mode():
        last = module.words(x)[1][0]
    np.testing.assert_allclose(torch.cat([last[0], last[1]], -1), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)


def by_hand(keras: Any) -> Any:
    """Two LSTMs of which one goes backwards, beside each other in a model in a model."""
    layers = keras.layers
    inputs = layers.Input((6, 4))
    ahead, back = layers.LSTM(5, name="forward_lstm"), layers.LSTM(5, name="backward_lstm", go_backwards=True)
    encoder = keras.Model(inputs, layers.Concatenate()([ahead(inputs), back(inputs)]), name="encoder")
    inputs = layers.Input((6, 4))
    return keras.Model(inputs, layers.Dense(2, name="head")(encoder(inputs)))


def apart() -> nn.Module:
    ahead, back = nn.LSTM(4, 5, batch_first=True), nn.LSTM(4, 5, batch_first=True)
    return tree(encoder=tree(forward_lstm=ahead, backward_lstm=back), head=nn.Linear(10, 2))


@pytest.mark.parametrize("form", FORMS)
def test_two_layers_that_only_are_called_so_stay_two(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    model, module = randomised(by_hand(keras)), apart()
    path, converted = file_of(model, form, saved, tmp_path), tmp_path / "converted.safetensors"
    bridge.convert(path, converted)
    bridge.load(module, converted, strict=True)
    encoder, x = module.encoder, torch.randn(2, 6, 4)
    with torch.inference_mode():
        last = [encoder.forward_lstm(x)[1][0][0], encoder.backward_lstm(x.flip(1))[1][0][0]]
        given = module.head(torch.cat(last, -1))
    np.testing.assert_allclose(given, model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)
    ending = ".h5" if form in ("whole", "weights") else form
    bridge.convert(converted, tmp_path / f"back{ending}", like=path)
    assert_comes_back(model, tmp_path / f"back{ending}")


def test_two_layers_that_only_are_called_so_are_written_as_two(keras: Any, randomised: Any, tmp_path: Path) -> None:
    model, module = randomised(by_hand(keras)), apart()
    keras_file = tmp_path / "model.keras"
    model.save(keras_file)
    bridge.load(module, keras_file, strict=True)
    again, converted = apart(), tmp_path / "converted.safetensors"
    alone = bridge.save(module, tmp_path / "alone.h5")
    assert list(bridge.read(alone).layers) == list(bridge.read(keras_file).layers)
    bridge.convert(alone, converted)
    bridge.load(again, converted, strict=True)
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), again.parameters(), strict=True))
