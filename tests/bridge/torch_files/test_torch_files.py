"""PyTorch's own files are read under the same names, whatever was put around the state dict."""

import collections
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bridge


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        collections.OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), part=nn.Sequential(nn.Linear(4, 2)))
    )


KEYS = {
    "conv/weight",
    "conv/bias",
    "bn/weight",
    "bn/bias",
    "bn/running_mean",
    "bn/running_var",
    "bn/num_batches_tracked",
    "part/0/weight",
    "part/0/bias",
}


def assert_holds(source: bridge.Source, state: dict[str, torch.Tensor]) -> None:
    assert source.keys() == KEYS
    for name, tensor in state.items():
        np.testing.assert_array_equal(source["/".join(name.split("."))], tensor.float().numpy())
    assert source.layout == "torch"


@pytest.mark.parametrize("name", ["w.safetensors", "w.h5", "w"])
def test_a_safetensors_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    state = net().state_dict()
    save_file(state, tmp_path / name)
    source = bridge.read(tmp_path / name)
    assert_holds(source, state)
    assert source.format == "safetensors"


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.h5", "w"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_a_pickled_state_dict_is_known_by_its_content(name: str, zipped: bool, tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    source = bridge.read(tmp_path / name)
    assert_holds(source, state)
    assert source.format == "torch"


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model_state_dict": lambda state: {"optimizer": {"lr": 0.1}, "model_state_dict": state},
    "model": lambda state: {"model": state},
    "two levels": lambda state: {"state_dict": {"model": state}},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "compiled, then DataParallel": lambda state: {f"module._orig_mod.{n}": tensor for n, tensor in state.items()},
    "DataParallel, then compiled": lambda state: {f"_orig_mod.module.{n}": tensor for n, tensor in state.items()},
    "all of it": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_what_training_puts_around_a_state_dict_is_taken_off(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    assert_holds(bridge.read(tmp_path / "w.pt"), state)


def test_a_prefix_that_only_some_names_have_is_a_name(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(2), "weight": torch.zeros(2)}, tmp_path / "w.pt")
    assert set(bridge.read(tmp_path / "w.pt")) == {"module/weight", "weight"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_every_precision_is_read(dtype: torch.dtype, save: Callable[..., None], tmp_path: Path) -> None:
    weight = net().state_dict()["conv.weight"].to(dtype)
    save({"conv.weight": weight}, tmp_path / "w")
    source = bridge.read(tmp_path / "w")
    assert source.stored["conv/weight"].dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_array_equal(source["conv/weight"].astype(np.float64), weight.double().numpy())


@pytest.mark.parametrize("save", [save_file, torch.save])
def test_precisions_that_numpy_does_not_know_are_widened(save: Callable[..., None], tmp_path: Path) -> None:
    weight = torch.tensor([[0.5, -1.5], [3.0, 0.25]])
    save({"fc.weight": weight.to(torch.float8_e4m3fn)}, tmp_path / "w")
    module = nn.Sequential(collections.OrderedDict(fc=nn.Linear(2, 2, bias=False)))
    bridge.load(module, tmp_path / "w")
    assert torch.equal(module.fc.weight, weight)


def test_a_sparse_tensor_is_refused_before_anything_is_copied(unchanged: Any) -> None:
    state = {"fc.bias": torch.ones(2), "fc.weight": torch.eye(2).to_sparse()}
    module = nn.Sequential(collections.OrderedDict(fc=nn.Linear(2, 2)))
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"sparse.*Save it dense"):
        bridge.load(module, state)
    assert same()


def test_shapes_are_known_before_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"fc.weight": torch.full((2, 3), 7.0)}, path)
    source = bridge.read(path)
    with path.open("r+b") as file:  # in the last moment
        file.seek(-24, os.SEEK_END)
        file.write(torch.full((2, 3), 8.0).numpy().tobytes())
    assert source.shapes == {"fc/weight": (2, 3)}
    with pytest.raises(bridge.BridgeError, match=r"has changed meanwhile\. Read it again"):
        source["fc/weight"]


@pytest.mark.parametrize("save", [save_file, torch.save])
def test_a_file_that_is_replaced_or_removed_meanwhile_is_read_as_it_was(
    save: Callable[..., None], tmp_path: Path
) -> None:
    path, other = tmp_path / "w", tmp_path / "other"
    save({"fc.weight": torch.full((2, 3), 7.0)}, path)
    save({"fc.weight": torch.zeros(9)}, other)
    first, second = bridge.read(path), bridge.read(path)
    other.replace(path)
    np.testing.assert_array_equal(first["fc/weight"], np.full((2, 3), 7.0))
    path.unlink()
    np.testing.assert_array_equal(second["fc/weight"], np.full((2, 3), 7.0))


@pytest.mark.parametrize("save", [save_file, torch.save])
@pytest.mark.parametrize("fetched", [True, False])
def test_a_file_that_is_cut_off_meanwhile_is_refused(save: Callable[..., None], fetched: bool, tmp_path: Path) -> None:
    path = tmp_path / "w"
    save({"fc.weight": torch.ones(3000)}, path)
    source = bridge.read(path)
    if fetched:
        assert source["fc/weight"].sum() == 3000
    os.truncate(path, 4096)
    with pytest.raises(bridge.BridgeError, match="has changed meanwhile"):
        source["fc/weight"]


def test_layers_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    save_file({f"features.{index}.weight": torch.ones(1) for index in (10, 2, 0, 7, 100)}, tmp_path / "w")
    assert list(bridge.read(tmp_path / "w").layers) == [f"features/{index}" for index in (0, 2, 7, 10, 100)]


class Bomb:
    """Pickled, it runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "boom"))


@pytest.mark.parametrize("kind", ["a bare pickle", "torch.save", "torch.save, old format"])
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(kind: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    content = {"conv.weight": torch.ones(2), "bomb": Bomb(trace)}
    if kind == "a bare pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch.save")
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "trust" not in str(caught.value), "it should not invite to run the code"
    assert not trace.exists()


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), 3])
def test_a_file_without_named_tensors_says_what_to_save(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(bridge.BridgeError, match=r"holds no tensors by name\. Save a state dict"):
        bridge.read(tmp_path / "w.pt")


def test_a_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(bridge.BridgeError, match="Save a state dict"):
        bridge.read(tmp_path / "w.pt")


def test_a_state_dict_in_memory_needs_no_file() -> None:
    state = net().state_dict()
    target = net()
    for parameter in target.parameters():
        nn.init.zeros_(parameter)
    plan = bridge.load(target, state)
    assert (plan.skipped, plan.untouched, len(plan.copied)) == ((), (), 9)
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in state.items())
