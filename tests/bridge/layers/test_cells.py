"""RNN(LSTMCell) and its like, alone and in a Bidirectional: one with their cell, whatever the user called that."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
CELLS = {"LSTMCell": nn.LSTM, "GRUCell": nn.GRU, "SimpleRNNCell": nn.RNN}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [None, "step"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("both", [True, False], ids=["both directions", "one direction"])
def test_a_repeated_cell_goes_into_torchs_layer_and_back(
    both: bool, cell: str, name: str | None, form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    words = layers.RNN(getattr(layers, cell)(6, name=name), return_sequences=True, name="words")
    layer = layers.Bidirectional(words, name="both") if both else words
    model = randomised(keras.Sequential([layers.Input((5, 4)), layer]))
    path, converted = file_of(model, form, saved, tmp_path), tmp_path / "converted.safetensors"
    bridge.convert(path, converted)
    own = CELLS[cell](4, 6, batch_first=True, bidirectional=both)
    module = tree(**{layer.name: own})
    for each in (path, converted):
        plan = bridge.load(module, each, strict=True)
        assert len(plan.copied) == (3 + (cell == "GRUCell") if each == path else 4) * (1 + both)
    assert bridge.verify(module, path).ok
    if both:
        halves = ["both/forward_words/kernel", "both/backward_words/kernel"]
        assert [key for key in bridge.read(path) if key.endswith("/kernel")] == halves
    x = torch.randn(2, 5, 4)
    with torch.inference_mode():
        np.testing.assert_allclose(own(x)[0], model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)
    back = bridge.save(module, tmp_path / f"back{'.h5' if form in ('whole', 'weights') else form}", like=path)
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(bridge.read(back)[key], array)


@pytest.mark.parametrize("form", ["whole", ".keras"])
@pytest.mark.parametrize("both", [True, False], ids=["both directions", "one direction"])
def test_what_a_repeated_cell_computes_is_read_from_the_file(
    both: bool, form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    words = layers.RNN(layers.LSTMCell(6, activation="relu", name="step"), return_sequences=True, name="words")
    layer = layers.Bidirectional(words, name="both") if both else words
    model = randomised(keras.Sequential([layers.Input((5, 4)), layer]))
    path = file_of(model, form, saved, tmp_path)
    with pytest.raises(bridge.BridgeError, match="words computes with activation='relu'"):
        bridge.load(tree(**{layer.name: nn.LSTM(4, 6, bidirectional=both)}), path)
    own = bridge.rnn.LSTM(4, 6, activation="relu", recurrent_activation="sigmoid", bidirectional=both)
    module = tree(**{layer.name: own})
    bridge.load(module, path, strict=True)
    assert bridge.verify(module, path).ok
    x = torch.randn(2, 5, 4)
    np.testing.assert_allclose(own(x)[0].detach(), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["whole", ".keras"])
def test_each_of_several_cells_computes_what_its_own_configuration_says(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    cells = [layers.LSTMCell(6, name="first"), layers.LSTMCell(3, activation="relu", name="second")]
    model = randomised(keras.Sequential([layers.Input((5, 4)), layers.RNN(cells, name="words")]))
    path = file_of(model, form, saved, tmp_path)
    module = tree(words=tree(first=nn.LSTM(4, 6, batch_first=True), second=nn.LSTM(6, 3, batch_first=True)))
    with pytest.raises(bridge.BridgeError, match="words/second computes with activation='relu'"):
        bridge.load(module, path)
    module.words.second = bridge.rnn.LSTM(6, 3, activation="relu", recurrent_activation="sigmoid")
    bridge.load(module, path, strict=True)
    x = torch.randn(2, 5, 4)
    given = module.words.second(module.words.first(x)[0])[1][0]
    np.testing.assert_allclose(given.detach().squeeze(0), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["whole", ".weights.h5", ".keras"])
def test_several_cells_of_a_later_session_find_their_places(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    """Keras numbers the cells on, and what holds them, whose name only a file of whole models has."""
    layers = keras.layers
    for _ in range(2):
        cells = [layers.GRUCell(6), layers.GRUCell(3)]
        model = randomised(keras.Sequential([layers.Input((5, 4)), layers.RNN(cells, name="words")]))
    module = tree(words=tree(gru_cell=nn.GRU(4, 6, batch_first=True), gru_cell_1=nn.GRU(6, 3, batch_first=True)))
    bridge.load(module, file_of(model, form, saved, tmp_path), strict=True)
    x = torch.randn(2, 5, 4)
    given = module.words.gru_cell_1(module.words.gru_cell(x)[0])[1][0]
    np.testing.assert_allclose(given.detach().squeeze(0), model(x.numpy()).detach(), rtol=1e-4, atol=1e-5)
