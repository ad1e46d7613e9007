"""Files that old Keras versions really wrote give what those versions computed.

The fixtures, and the scripts that made them, stand in fixtures/; each .npz holds an input and its output.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge import rnn

FIXTURES = Path(__file__).parents[1] / "fixtures"
Steps = list[tuple[str, nn.Module]]


def bn(channels: int, eps: float = 1e-3) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=eps)


def conv(given: int, out: int) -> nn.Module:
    return nn.Conv2d(given, out, 3, padding=1)


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def relu() -> tuple[str, nn.Module]:
    return "", nn.ReLU()


FLATTEN, POOL = ("", nn.Flatten()), ("", nn.MaxPool2d(2))


def plain(before: str = "", eps: float = 1e-3) -> Steps:
    return [
        (f"{before}block1_conv1", conv(3, 4)),
        relu(),
        (f"{before}bn1", bn(4, eps)),
        (f"{before}up1", nn.ConvTranspose2d(4, 3, 2, stride=2)),
        FLATTEN,
        (f"{before}fc1", nn.Linear(768, 5)),
        relu(),
        (f"{before}predictions", nn.Linear(5, 3)),
    ]


def autonamed(eps: float = 1e-3) -> Steps:
    return [
        ("conv2d", conv(1, 4)),
        relu(),
        ("batch_normalization", bn(4, eps)),
        POOL,
        ("conv2d_1", conv(4, 6)),
        relu(),
        ("batch_normalization_1", bn(6, eps)),
        FLATTEN,
        ("dense", nn.Linear(96, 5)),
        relu(),
        ("dense_1", nn.Linear(5, 3)),
    ]


def second_in_graph() -> Steps:
    return [
        ("conv2d_1", conv(1, 4)),
        relu(),
        ("batch_normalization_1", bn(4)),
        FLATTEN,
        ("dense_1", nn.Linear(256, 3)),
    ]


def nested() -> Steps:
    return [
        ("encoder.conv", conv(3, 4)),
        relu(),
        ("encoder.bn", bn(4)),
        ("encoder.conv_b", conv(4, 5)),
        relu(),
        ("middle.conv", conv(5, 2)),
        relu(),
        POOL,
        FLATTEN,
        ("head", nn.Linear(32, 3)),
    ]


def nested_keras_1() -> Steps:
    return [
        ("encoder.ec_1", conv(3, 4)),
        relu(),
        ("encoder.ebn", bn(4)),
        ("encoder.ec_2", conv(4, 5)),
        relu(),
        ("middle.mc_1", conv(5, 2)),
        relu(),
        ("middle.mbn", bn(2)),
        FLATTEN,
        ("head", nn.Linear(128, 3)),
    ]


def pooled(first: str, second: str, head: str) -> Steps:
    return [(first, conv(3, 4)), relu(), (second, bn(4)), ("", Mean()), (head, nn.Linear(4, 3))]


def slash() -> Steps:
    return [
        ("enc.block1", conv(3, 4)),
        relu(),
        ("enc.block2", conv(4, 4)),
        relu(),
        ("", Mean()),
        ("head", nn.Linear(4, 3)),
    ]


def vgg() -> Steps:
    steps: Steps = []
    for block, widths in ((1, (3, 4, 4)), (2, (4, 6, 6))):
        for stage in (1, 2):
            steps += [(f"block{block}_conv{stage}", conv(*widths[stage - 1 : stage + 1])), relu()]
        steps.append(POOL)
    steps += [FLATTEN, ("fc1", nn.Linear(24, 7)), relu(), ("fc2", nn.Linear(7, 5)), relu()]
    return [*steps, ("predictions", nn.Linear(5, 3))]


def ordered() -> Steps:
    return [
        ("conv_a", nn.Conv2d(2, 4, (3, 2))),
        ("bn", bn(4)),
        ("prelu", rnn.PReLU((4, 6, 5))),
        ("up", nn.ConvTranspose2d(4, 3, (2, 3), stride=2)),
        ("conv_b", nn.Conv2d(3, 2, (4, 3), stride=(3, 2))),
        FLATTEN,
        ("head", nn.Linear(30, 3)),
    ]


class Separable(nn.Sequential):
    def __init__(self, given: int, out: int, window: tuple[int, int], multiplier: int) -> None:
        super().__init__(
            nn.Conv2d(given, given * multiplier, window, groups=given), nn.Conv2d(given * multiplier, out, 1)
        )


def separable() -> Steps:
    return [("sep", Separable(2, 4, (3, 2), 3)), FLATTEN, ("head", nn.Linear(64, 3))]


def ordered_keras_2() -> Steps:
    return [
        ("conv", nn.Conv2d(2, 4, (3, 2))),
        ("sep", Separable(4, 3, (2, 3), 2)),
        ("depth", nn.Conv2d(3, 6, (3, 2), groups=3)),
        ("up", nn.ConvTranspose2d(6, 3, (2, 3), stride=2)),
        FLATTEN,
        ("head", nn.Linear(126, 3)),
    ]


BUILT: dict[str, Callable[[], Steps]] = {
    "keras1_plain": plain,
    "keras1_autonamed": autonamed,
    "keras1_vgg": vgg,
    "keras1_nested": nested_keras_1,
    "keras1_sequential": lambda: pooled("conv_a", "bn_a", "head"),
    "keras1_0_8_plain": lambda: plain(eps=1e-5),
    "keras1_0_8_autonamed": lambda: autonamed(eps=1e-5),
    **{
        f"{writer}_{name}": steps
        for writer in ("keras2_0_9", "keras2_3_1", "tf_keras")
        for name, steps in {
            "plain": plain,
            "autonamed": autonamed,
            "second_in_graph": second_in_graph,
            "nested": nested,
            "sequential": lambda: pooled("conv_a", "bn_a", "head"),
        }.items()
    },
    "tf_keras_nested_frozen": nested,
    "tf_keras_nested_frozen_bn": nested,
    "tf_keras_slash": slash,
    "tf_keras_subm": lambda: pooled("user_conv", "user_bn", "user_head"),
    "tf_keras_subm_auto": lambda: pooled("conv2d", "batch_normalization", "dense"),
    "tf_keras_renamed": lambda: plain("new_"),
}
# A weights-only file does not say that `middle`, which has one inner layer, is a model: what stands in
# the name of its weights could as well be an older name of the layer itself.
RENAMES = {
    f"{writer}_{name}_weights": {"middle": "middle/conv"}
    for writer in ("keras2_0_9", "keras2_3_1", "tf_keras")
    for name in ("nested", "nested_frozen", "nested_frozen_bn")
}
FILES = sorted(file.stem for name in BUILT for file in FIXTURES.glob(f"{name}_[wm]*.h5"))

# Files with channels first, or Theano's: what has to be said of them.
TOLD: dict[str, tuple[Callable[[], Steps], str | None]] = {
    "keras1_ordered_th": (ordered, "tf"),
    "keras1_theano_ordered_th": (ordered, "th"),
    "keras1_theano_ordered_tf": (ordered, "th"),
    "keras1_separable_th": (separable, None),
    "keras1_theano_volume_th": (
        lambda: [("conv", nn.Conv3d(2, 4, (3, 2, 2))), FLATTEN, ("head", nn.Linear(64, 3))],
        "th",
    ),
    "keras2_3_1_ordered": (ordered_keras_2, None),
    "keras2_3_1_theano_ordered": (ordered_keras_2, None),
}
# The maps that their weights-only files do not tell.
MAPS = {
    "keras1_ordered_th": (3, 5, 2),
    "keras1_theano_ordered_th": (3, 5, 2),
    "keras1_theano_ordered_tf": (3, 5, 2),
    "keras1_theano_volume_th": (2, 4, 2, 4),
    "keras2_3_1_ordered": (6, 7, 3),
    "keras2_3_1_theano_ordered": (6, 7, 3),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_an_old_keras_gives_what_that_keras_gave(file: str, chain: Any) -> None:
    model = file.rpartition("_")[0]
    recorded = np.load(FIXTURES / f"{model}.npz")
    module = chain(*BUILT[model]())
    plan = bridge.load(module, FIXTURES / f"{file}.h5", rename=RENAMES.get(file), strict=True)
    assert len(plan.copied) == sum(not name.endswith("num_batches_tracked") for name in module.state_dict())
    with torch.inference_mode():
        given = module.eval()(torch.from_numpy(recorded["x"]).permute(0, 3, 1, 2)).softmax(1)
    np.testing.assert_allclose(given.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_an_old_keras_says_who_wrote_it(file: str) -> None:
    source = bridge.read(FIXTURES / f"{file}.h5")
    version = {"keras1": "1", "keras2": file[5:10].replace("_", "."), "tf": "2.21.0"}[file.split("_")[0]]
    assert (source.keras_version or "").startswith(version)
    assert source.format == ("keras-h5-model" if file.endswith("_model") else "keras-h5-weights")
    assert (source.architecture is not None) == file.endswith("_model")
    assert source.backend == (None if file.startswith("keras1") else "tensorflow")


@pytest.mark.parametrize("kind", ["weights", "model"])
@pytest.mark.parametrize("name", TOLD)
def test_a_file_of_another_order_gives_what_its_keras_gave(name: str, kind: str, chain: Any) -> None:
    steps, kernels = TOLD[name]
    recorded = np.load(FIXTURES / f"{name}.npz")
    flatten: Any = {"head": MAPS[name]} if kind == "weights" and name in MAPS else None
    module = chain(*steps())
    source = bridge.read(FIXTURES / f"{name}_{kind}.h5", kernels=kernels, flatten=flatten)
    bridge.load(module, source, flatten=flatten, strict=True)
    with torch.inference_mode():
        given = module.eval()(torch.from_numpy(recorded["x"]).movedim(-1, 1)).softmax(1)
    np.testing.assert_allclose(given.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)


class Swapped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Outputs(nn.Module):
    def forward(self, given: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return given[0]


class Last(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -1]


SWAPPED, OUTPUTS, LAST = ("", Swapped()), ("", Outputs()), ("", Last())


def recurrent_keras_1() -> Steps:
    return [
        ("embedding_1", nn.Embedding(9, 4)),
        SWAPPED,
        ("convolution1d_1", nn.Conv1d(4, 5, 3)),
        SWAPPED,
        *(("gru_1", rnn.GRU(5, 6)), OUTPUTS),
        *(("bidirectional_1", rnn.LSTM(6, 4, bidirectional=True)), OUTPUTS),
        ("timedistributed_1", nn.Linear(8, 5)),
        *(("lstm_2", rnn.LSTM(5, 4)), OUTPUTS),
        *(("simplernn_1", nn.RNN(4, 5, batch_first=True)), OUTPUTS),
        LAST,
        ("dense_2", nn.Linear(5, 3)),
    ]


def recurrent_keras_2(gate: str, reset_after: bool) -> Steps:
    return [
        ("embedding_1", nn.Embedding(9, 4)),
        SWAPPED,
        ("conv1d_1", nn.Conv1d(4, 5, 3)),
        SWAPPED,
        *(("gru_1", rnn.GRU(5, 6, recurrent_activation=gate)), OUTPUTS),
        *(("bidirectional_1", rnn.LSTM(6, 4, recurrent_activation=gate, bidirectional=True)), OUTPUTS),
        ("time_distributed_1", nn.Linear(8, 5)),
        *(("gru_2", rnn.GRU(5, 4, recurrent_activation=gate, reset_after=reset_after)), OUTPUTS),
        *(("rnn_1.lstm_cell", rnn.LSTM(4, 3, recurrent_activation=gate)), OUTPUTS),
        *(("rnn_1.gru_cell", rnn.GRU(3, 5, recurrent_activation=gate)), OUTPUTS),
        *(("simple_rnn_1", nn.RNN(5, 5, batch_first=True)), OUTPUTS),
        LAST,
        ("dense_2", nn.Linear(5, 3)),
    ]


def cudnn() -> Steps:
    return [
        *(("first", nn.GRU(3, 5, batch_first=True)), OUTPUTS),
        *(("second", nn.LSTM(5, 4, batch_first=True)), OUTPUTS),
        *(("both", nn.LSTM(4, 3, batch_first=True, bidirectional=True)), OUTPUTS),
        *(("ways", nn.GRU(6, 2, batch_first=True, bidirectional=True)), OUTPUTS),
        FLATTEN,
        ("head", nn.Linear(24, 3)),
    ]


RECURRENT: dict[str, Callable[[], Steps]] = {
    "keras1_recurrent": recurrent_keras_1,
    "keras1_0_8_recurrent": recurrent_keras_1,
    "keras1_theano_recurrent": recurrent_keras_1,
    "keras2_0_9_recurrent": lambda: recurrent_keras_2("hard_sigmoid", reset_after=False),
    "keras2_3_1_recurrent": lambda: recurrent_keras_2("sigmoid", reset_after=True),
    "keras2_3_1_cudnn": cudnn,
}


@pytest.mark.parametrize("file", sorted(file.stem for name in RECURRENT for file in FIXTURES.glob(f"{name}_*.h5")))
def test_recurrent_layers_of_an_old_keras_give_what_they_gave(file: str, chain: Any) -> None:
    name = file.rpartition("_")[0]
    recorded = np.load(FIXTURES / f"{name}.npz")
    module = chain(*RECURRENT[name]())
    source = bridge.read(FIXTURES / f"{file}.h5", kernels="th" if "theano" in name else None)
    bridge.load(module, source, strict=True)
    x = torch.from_numpy(recorded["x"])
    with torch.inference_mode():
        given = module.eval()(x if "cudnn" in name else x.long()).softmax(1)
    np.testing.assert_allclose(given.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)


def test_names_too_long_for_one_attribute_are_put_together(chain: Any) -> None:
    source = bridge.read(FIXTURES / "tf_keras_chunked_layers_weights.h5")
    dense = [layer for layer in source.layers if layer.startswith("dense_")]
    assert [layer[:8] for layer in dense] == ["dense_0_", "dense_8_", "dense_16"]
    assert all(len(layer) == 2800 for layer in dense)
    recorded = np.load(FIXTURES / "tf_keras_chunked_layers.npz")
    module = chain(*((f"d{rank}", nn.Linear(3, 3)) for rank in range(3)))
    bridge.load(module, source, rename={layer: f"d{rank}" for rank, layer in enumerate(dense)}, strict=True)
    x = torch.from_numpy(recorded["x"])
    with torch.inference_mode():
        for rank, tanhs in enumerate((7, 7, 6)):
            x = module.get_submodule(f"d{rank}")(x)
            for _ in range(tanhs):
                x = x.tanh()
    np.testing.assert_allclose(x.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)


def test_weight_names_too_long_for_one_attribute_are_put_together(chain: Any) -> None:
    source = bridge.read(FIXTURES / "tf_keras_chunked_inner_weights.h5")
    recorded = np.load(FIXTURES / "tf_keras_chunked_inner.npz")
    inner = [layer for layer in source.layers if layer != "head"]
    assert [layer[:14] for layer in inner] == ["inner/dense_0_", "inner/dense_1_"]
    tanh = ("", nn.Tanh())
    module = chain(("a", nn.Linear(3, 3)), tanh, ("b", nn.Linear(3, 3)), tanh, ("head", nn.Linear(3, 2)))
    bridge.load(module, source, rename=dict(zip(inner, "ab", strict=True)), strict=True)
    with torch.inference_mode():
        given = module(torch.from_numpy(recorded["x"]))
    np.testing.assert_allclose(given.numpy(), recorded["y"], rtol=1e-4, atol=1e-5)
