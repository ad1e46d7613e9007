"""Weights go back into files that Keras loads: trained in PyTorch, used in Keras."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from digests import without_digest
from torch import nn

import bridge
from bridge import rnn

Draw = Callable[..., np.ndarray]


def model_of(keras: Any) -> Any:
    """A network hard to bring back: a Flatten, an inner model, a normalisation, a recurrent layer."""
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Input((None, None, 4)), layers.Conv2D(5, 3, name="conv"), layers.BatchNormalization(name="bn")],
        name="inner",
    )
    x = inputs = layers.Input((7, 6, 3))
    x = layers.Conv2D(4, 2, activation="relu", name="first")(x)
    x = layers.Flatten(name="flat")(inner(x))
    x = layers.Dense(12, name="fc")(x)
    x = layers.LSTM(3, name="memory")(layers.Reshape((4, 3), name="steps")(x))
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


class Network(nn.Module):
    """The same in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 2)
        self.inner = nn.Module()
        self.inner.conv, self.inner.bn = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, eps=1e-3, momentum=0.01)
        self.fc = nn.Linear(4 * 3 * 5, 12)
        self.memory = nn.LSTM(3, 3, batch_first=True)
        self.out = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner.bn(self.inner.conv(self.first(x).relu()))
        return self.out(self.memory(self.fc(x.flatten(1)).unflatten(1, (4, 3)))[0][:, -1])


@pytest.fixture
def written_by_keras(keras: Any, randomised: Any, saved: Any, tmp_path: Path) -> Callable[[str], tuple[Any, Path]]:
    def write(ending: str) -> tuple[Any, Path]:
        model = randomised(model_of(keras))
        path = tmp_path / f"keras{ending}"
        if ending == ".weights.h5":
            with warnings.catch_warnings():  # Keras's, of its own variables
                warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
                model.save_weights(path)
        else:
            saved(model, path.name)
        return model, path

    return write


def trained(module: nn.Module) -> nn.Module:
    """The module with every number moved, as training would."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and "bias_hh" not in name:
                tensor.mul_(1.1).add_(0.01)
    return module


ENDINGS = [".h5", ".weights.h5", ".keras"]
MAP = {"fc": (4, 3, 5)}  # which a .weights.h5 does not tell


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_trained_in_pytorch_computes_the_same_in_keras(
    ending: str, written_by_keras: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    model, original = written_by_keras(ending)
    module = Network()
    assert bridge.load(module, original, flatten=MAP).skipped == ()
    assert_same(model, module, images(2, 7, 6, 3))
    model.load_weights(bridge.save(trained(module), tmp_path / f"back{ending}", like=original, flatten=MAP))
    assert_same(model, module, images(2, 7, 6, 3))


@pytest.mark.parametrize(
    "choice",
    [{"flip_input": True}, {"in_channels": 1}, {"fold_batch_norm": True}, {"classes": (["a"], ["a"])}],
    ids=str,
)
def test_a_change_on_the_way_to_a_module_is_none_on_the_way_back(choice: Any, tmp_path: Path) -> None:
    (option,) = choice
    with pytest.raises(bridge.BridgeError, match=rf"save writes weights as they are\. Leave {option} out"):
        bridge.save(Network(), tmp_path / "back.h5", **choice)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_bfloat16_numbers_are_written_as_they_are(ending: str, written_by_keras: Any, tmp_path: Path) -> None:
    _, original = written_by_keras(ending)
    module = Network().bfloat16()
    bridge.load(module, original, flatten=MAP)
    back = Network()
    bridge.load(back, bridge.save(module, tmp_path / f"back{ending}", like=original, flatten=MAP), flatten=MAP)
    held = module.state_dict()
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, held[name].to(tensor.dtype)), name


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_converted_file_goes_back_on_the_command_line(
    ending: str, written_by_keras: Any, bridge_cli: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    model, original = written_by_keras(ending)
    converted, back = tmp_path / "w.safetensors", tmp_path / f"back{ending}"
    flatten = ("--flatten", "fc=4x3x5")
    assert bridge_cli("convert", original, converted, *flatten).code == 0
    answer = bridge_cli("convert", converted, back, "--like", original, *flatten)
    assert (answer.code, answer.err) == (0, "")
    if ending != ".keras":
        assert without_digest(back) == original.read_bytes()
    module = Network()
    bridge.load(module, original, flatten=MAP)
    for weight in model.weights:
        weight.assign(np.zeros(tuple(weight.shape), np.float32))
    model.load_weights(back)
    assert_same(model, module, images(2, 7, 6, 3))


def test_the_weights_of_an_archive_become_a_file_of_their_own(
    written_by_keras: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    model, original = written_by_keras(".keras")
    module = Network()
    bridge.load(module, original)
    trained(module)
    for ending in (".weights.h5", ".h5"):
        model.load_weights(bridge.save(module, tmp_path / f"back{ending}", like=original))
        assert_same(model, module, images(2, 7, 6, 3))


def test_a_whole_archive_that_came_back_is_a_model(
    keras: Any, written_by_keras: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    _, original = written_by_keras(".keras")
    module = Network()
    bridge.load(module, original)
    back = bridge.save(trained(module), tmp_path / "back.keras", like=original)
    assert_same(keras.saving.load_model(back), module, images(2, 7, 6, 3))


def test_a_module_alone_is_loaded_by_order_and_by_name(
    keras: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    names = ["a", "b", "c"]
    model = keras.Sequential(
        [
            layers.Input((6, 5, 3)),
            layers.Conv2D(4, 3, name="a"),
            layers.BatchNormalization(name="b"),
            layers.Conv2D(2, 2, name="c"),
        ]
    )
    module = nn.Sequential()
    for name, layer in zip(names, [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.Conv2d(4, 2, 2)], strict=True):
        module.add_module(name, layer)
    path = bridge.save(trained(module), tmp_path / "alone.h5")
    model.load_weights(path)
    assert_same(model, module, images(2, 6, 5, 3))
    for weight in model.weights:
        weight.assign(np.zeros(tuple(weight.shape), np.float32))
    model.load_weights(path, by_name=True)
    assert_same(model, module, images(2, 6, 5, 3))


def test_a_module_alone_keeps_keras_names_and_the_order_behind_a_flatten(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        whole = torchvision.models.vgg11(num_classes=3)
    module = nn.Module()
    module.features = whole.features[:3].to_empty(device="cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    source = bridge.read(bridge.save(module, tmp_path / "vgg.h5", names="keras"))
    again = nn.Module()
    again.features = nn.Sequential(nn.Conv2d(3, 64, 3))
    bridge.load(again, source, strict=True)
    assert torch.equal(again.features[0].weight, module.features[0].weight)


def test_more_names_than_one_attribute_holds_are_split_as_keras_splits_them(tmp_path: Path) -> None:
    module = nn.ModuleDict({f"layer_{'x' * 200}_{index}": nn.Linear(1, 1) for index in range(400)})
    path = bridge.save(module, tmp_path / "many.h5")
    with h5py.File(path) as file:
        assert "layer_names" not in file.attrs
        assert "layer_names1" in file.attrs
    assert len(bridge.load(module, path, strict=True).copied) == 800


def test_what_is_skipped_keeps_the_files_numbers(written_by_keras: Any, tmp_path: Path) -> None:
    _, original = written_by_keras(".h5")
    module = Network()
    bridge.load(module, original)
    back = bridge.save(trained(module), tmp_path / "back.h5", like=original, skip="out")
    before, after = bridge.read(original), bridge.read(back)
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed == {key for key in before if not key.startswith("out/")}


def test_what_convert_skips_is_not_in_the_file_and_a_pattern_that_leaves_out_nothing_is_refused(
    written_by_keras: Any, tmp_path: Path
) -> None:
    _, original = written_by_keras(".h5")
    rewritten, converted = tmp_path / "rewritten.h5", tmp_path / "converted.safetensors"
    conversion = bridge.convert(original, rewritten, skip="out")
    assert conversion.skipped == {"out/kernel": "left out by skip", "out/bias": "left out by skip"}
    assert [*bridge.read(rewritten).layers] == [name for name in bridge.read(original).layers if name != "out"]
    bridge.convert(original, converted, skip="out")
    back = bridge.convert(converted, tmp_path / "back.h5", like=original, skip="out").path
    assert [*bridge.read(back).layers] == [*bridge.read(original).layers]
    for source, like in ((original, None), (converted, original)):
        with pytest.raises(bridge.BridgeError, match=r"skip 'ouf' matches nothing.*out"):
            bridge.convert(source, tmp_path / "none.h5", like=like, skip="ouf")
    with pytest.raises(bridge.BridgeError, match="would hold nothing"):
        bridge.convert(original, tmp_path / "none.h5", skip="*")
    assert not (tmp_path / "none.h5").exists()


def test_two_biases_of_pytorch_are_one_of_keras(keras: Any, randomised: Any, saved: Any, tmp_path: Path) -> None:
    inputs = keras.layers.Input((5, 3))
    model = randomised(keras.Model(inputs, keras.layers.LSTM(4, name="memory", return_sequences=True)(inputs)))
    original = saved(model)
    module = nn.Module()
    module.memory = nn.LSTM(3, 4, batch_first=True)
    bridge.load(module, original)
    with torch.no_grad():
        module.memory.bias_hh_l0.normal_()
    model.load_weights(bridge.save(module, tmp_path / "back.h5", like=original))
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    with torch.inference_mode():
        given = module.memory(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(given, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_weight_that_keras_has_no_place_for_is_refused(
    keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    inputs = keras.layers.Input((4, 4, 3))
    original = saved(randomised(keras.Model(inputs, keras.layers.BatchNormalization(scale=False, name="bn")(inputs))))
    module = nn.Module()
    module.bn = nn.BatchNorm2d(3, eps=1e-3)
    bridge.load(module, original)
    assert without_digest(bridge.save(module, tmp_path / "same.h5", like=original)) == original.read_bytes()
    with torch.no_grad():
        module.bn.weight.mul_(2)
    with pytest.raises(bridge.BridgeError, match=r"bn.weight is no longer 1, and the Keras layer has no weight for it"):
        bridge.save(module, tmp_path / "back.h5", like=original)
    assert not (tmp_path / "back.h5").exists()


def test_an_old_file_becomes_one_of_today(bridge_cli: Any, tmp_path: Path) -> None:
    old = Path(__file__).parent / "fixtures" / "keras1_plain_weights.h5"
    new = tmp_path / "new.h5"
    assert bridge_cli("convert", old, new).code == 0
    before, after = bridge.read(old), bridge.read(new)
    assert list(before) == list(after)
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert after.keras_version == "2.15.0"


REFUSED = {
    "no file to write like": ([], "needs --like, the Keras file that the weights in w.safetensors came from"),
    "another format": (["--like", "{model}.weights.h5"], "needs the structure of another .keras file"),
    "a file of torch": (["--like", "{w}"], "w.safetensors is no Keras file"),
    "a file of another model": (["--like", "{other}"], "has no other.weight, which other.h5 holds"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_for_keras_is_one_line(
    kind: str, written_by_keras: Any, written: Any, numbers: Draw, refused: Any, tmp_path: Path
) -> None:
    arguments, said = REFUSED[kind]
    _, original = written_by_keras(".weights.h5")
    other = written({"other": {"kernel": numbers(2, 3)}}, name="other.h5")
    converted = tmp_path / "w.safetensors"
    bridge.convert(original, converted, flatten=MAP)
    there = tmp_path / ("back.h5" if kind == "a file of another model" else "back.keras")
    names = {"model": tmp_path / "keras", "w": converted, "other": other}
    assert said in refused("convert", converted, there, *(each.format(**names) for each in arguments))
    assert not there.exists()


def test_compressed_numbers_are_not_written_over(written: Any, numbers: Draw, tmp_path: Path) -> None:
    like = written({"fc": {"kernel": numbers(20, 30)}}, compression="gzip")
    module = nn.ModuleDict({"fc": nn.Linear(20, 30, bias=False)})
    with pytest.raises(bridge.BridgeError, match="keeps fc/kernel compressed"):
        bridge.save(module, tmp_path / "back.h5", like=like)
    assert not (tmp_path / "back.h5").exists()


def test_a_gru_of_our_own_goes_back_with_one_bias(keras: Any, randomised: Any, saved: Any, tmp_path: Path) -> None:
    inputs = keras.layers.Input((5, 3))
    model = randomised(keras.Model(inputs, keras.layers.GRU(4, name="memory", reset_after=False)(inputs)))
    original = saved(model)
    module = nn.Module()
    module.memory = rnn.GRU(3, 4, recurrent_activation="sigmoid")
    bridge.load(module, original, strict=True)
    assert without_digest(bridge.save(module, tmp_path / "back.h5", like=original)) == original.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_changed_bit_of_a_file_of_ours_is_found(ending: str, written_by_keras: Any, tmp_path: Path) -> None:
    _, original = written_by_keras(ending)
    module = Network()
    bridge.load(module, original, flatten=MAP)
    back = bridge.save(module, tmp_path / f"back{ending}", like=original, flatten=MAP)
    again = bridge.save(module, tmp_path / f"again{ending}", like=back, flatten=MAP)
    assert len(again.read_bytes()) == len(back.read_bytes())
    whole = back.read_bytes()
    numbers = np.ascontiguousarray(bridge.read(original)["fc/kernel"]).tobytes()
    start = whole.index(numbers)
    for place in (start, start + len(numbers) // 2, start + len(numbers) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        back.write_bytes(damaged)
        with pytest.raises(bridge.BridgeError, match=r"SHA-256 differs|damaged"):
            bridge.load(Network(), back, flatten=MAP)


def test_a_weight_that_a_file_holds_twice_is_written_twice(
    keras: Any, randomised: Any, saved: Any, tmp_path: Path
) -> None:
    """Keras reads both places, and the second one last: what a layer's owner has as an attribute of its own."""

    class Tied(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = keras.layers.Embedding(9, 4, name="words")

        def build(self, shape: Any) -> None:
            self.words.build(shape)
            self.tied = self.words.embeddings

        def call(self, x: Any) -> Any:
            return self.words(x) @ keras.ops.transpose(self.tied)

    model = Tied()
    model(np.zeros((1, 3), np.int32))
    path = saved(randomised(model), weights_only=True)
    module = nn.ModuleDict({"words": nn.Embedding(9, 4)})
    bridge.load(module, path, strict=True)
    with torch.no_grad():
        module["words"].weight.normal_()
    model.load_weights(bridge.save(module, tmp_path / "back.h5", like=path))
    assert torch.equal(model.words.embeddings.value.detach(), module["words"].weight)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("form", [".weights.h5", ".keras"])
def test_the_kernel_in_a_spectral_normalization_is_that_of_the_layer_inside(
    form: str, keras: Any, randomised: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    wrapped = layers.SpectralNormalization(layers.Dense(3, name="d"), name="s")
    model = randomised(keras.Sequential([layers.Input((4,)), wrapped]))
    path, back = tmp_path / f"m{form}", tmp_path / f"back{form}"
    model.save(path) if form == ".keras" else model.save_weights(path)
    module = nn.ModuleDict({"s": nn.ModuleDict({"d": nn.Linear(4, 3)})})
    bridge.load(module, path)
    with torch.no_grad():
        module["s"]["d"].weight.normal_()
    bridge.save(module, back, like=path, skip="*/vector_u")
    again = keras.models.load_model(back) if form == ".keras" else model
    if form != ".keras":
        model.load_weights(back)
    assert torch.equal(again.layers[-1].layer.kernel.value.detach().T, module["s"]["d"].weight)
    assert np.array_equal(bridge.read(back).twins["s/d/kernel"].fetch(), bridge.read(back)["s/d/kernel"])
