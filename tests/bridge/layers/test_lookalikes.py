"""Layers whose numbers fit a module that computes something else with them are named, and never loaded in silence."""

from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
FORMS = ["whole", "weights", ".weights.h5", ".keras"]


@pytest.mark.parametrize("form", ["whole", ".keras"])
@pytest.mark.parametrize("equation", ["abc,dc->abd", "abc,bd->adc", "abc,cd->adb"])
def test_an_equation_that_is_not_that_of_dense_is_refused(
    form: str, equation: str, keras: Any, randomised: Any, saved: Any, tmp_path: Any
) -> None:
    size = (None, 4) if equation == "abc,dc->abd" else (4, 4)
    layer = keras.layers.EinsumDense(equation, output_shape=size, name="e")
    path = file_of(randomised(keras.Sequential([keras.Input((4, 4)), layer])), form, saved, tmp_path)
    with pytest.raises(bridge.BridgeError, match=f"e computes '{equation}', .* skip 'e'"):
        bridge.load(tree(e=nn.Linear(4, 4)), path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("equation", ["abc,cd->abd", "...x,xy->...y"])
def test_an_equation_that_is_that_of_dense_computes_what_dense_computes(
    form: str, equation: str, keras: Any, randomised: Any, saved: Any, images: Any, tmp_path: Any
) -> None:
    size = 3 if equation.startswith("...") else (None, 3)
    layer = keras.layers.EinsumDense(equation, output_shape=size, bias_axes=equation[-1], name="e")
    model = randomised(keras.Sequential([keras.Input((5, 4)), layer]))
    module = tree(e=nn.Linear(4, 3))
    plan = bridge.load(module, file_of(model, form, saved, tmp_path), strict=True)
    x = images(2, 5, 4)
    found = module.e(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, model(x).detach(), rtol=1e-4, atol=1e-5)
    said = any("does not say that it computes what Dense does" in note for note in plan.notes)
    assert said == (form == ".weights.h5")


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling:UserWarning")
@pytest.mark.parametrize("form", ["whole", ".keras"])
def test_a_root_mean_square_is_no_layer_norm(form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Any) -> None:
    layer = keras.layers.LayerNormalization(rms_scaling=True, name="n")
    path = file_of(randomised(keras.Sequential([keras.Input((6,)), layer])), form, saved, tmp_path)
    with pytest.raises(bridge.BridgeError, match=r"n has rms_scaling=True, .*skip 'n'"):
        bridge.load(tree(n=nn.LayerNorm(6, eps=1e-3)), path)


@pytest.mark.parametrize("kind", ["Dense", "Embedding"])
@pytest.mark.parametrize("form", FORMS)
def test_adapters_beside_a_kernel_are_merged_by_keras_or_named(
    form: str, kind: str, keras: Any, randomised: Any, saved: Any, tmp_path: Any
) -> None:
    layer = keras.layers.Dense(5, name="d") if kind == "Dense" else keras.layers.Embedding(6, 5, name="d")
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.enable_lora(2)
    path = file_of(randomised(model), form, saved, tmp_path)
    module = tree(d=nn.Linear(6, 5) if kind == "Dense" else nn.Embedding(6, 5))
    if form in (".weights.h5", ".keras"):
        bridge.load(module, path, strict=True)
        kernel = layer.kernel if kind == "Dense" else layer.embeddings
        wanted = kernel.detach().T if kind == "Dense" else kernel.detach()
        np.testing.assert_allclose(module.d.weight.detach(), wanted, rtol=1e-5, atol=1e-6)
        return
    for call in (lambda: bridge.load(module, path), lambda: bridge.convert(path, tmp_path / "w.safetensors")):
        with pytest.raises(bridge.BridgeError, match=r"d has LoRA adapters.*\.weights\.h5.*skip '\*/lora_\*'"):
            call()
    plan = bridge.load(module, path, skip="*/lora_*")
    assert {key.rpartition("/")[2] for key in plan.copied} <= {"kernel", "bias", "embeddings"}


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have:UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_quantised_steps_are_no_weights_in_any_file(form: str, keras: Any, saved: Any, tmp_path: Any) -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="d")])
    model.quantize("int8")
    with pytest.raises(bridge.BridgeError, match="layer d is quantised: it holds int8 steps"):
        bridge.read(file_of(model, form, saved, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_one_of_gamma_and_beta_is_not_called_proved_where_nothing_tells_which(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Any
) -> None:
    """A file without an architecture and without roles gives beta where there was gamma."""
    layers = [keras.layers.Dense(4, name="d"), keras.layers.BatchNormalization(center=False, name="n")]
    path = file_of(randomised(keras.Sequential([keras.Input((6,)), *layers])), form, saved, tmp_path)
    module = tree(d=nn.Linear(6, 4), n=nn.BatchNorm1d(4, eps=1e-3))
    bridge.load(module, path)
    report = bridge.verify(module, path)
    assert report.ok
    assert [proof.name for proof in report.not_proved] == (["n"] if form == ".weights.h5" else [])
