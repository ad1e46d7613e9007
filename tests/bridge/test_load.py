"""A load is all or nothing, and afterwards the module computes what Keras computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import bridge

Draw = Callable[..., np.ndarray]
Write = Callable[..., Path]
FLATTEN, RELU = ("", nn.Flatten()), ("", nn.ReLU())


def two(chain: Any) -> nn.Module:
    return chain(("a", nn.Linear(3, 4)), ("b", nn.Linear(4, 2)))


def arrays(numbers: Draw, **changed: Any) -> dict[str, Any]:
    """Weights for `two`, in Keras's axes."""
    given = {"a/kernel": numbers(3, 4), "a/bias": numbers(4), "b/kernel": numbers(4, 2), "b/bias": numbers(2)}
    return given | {key.replace("_", "/"): array for key, array in changed.items()}


def test_what_is_loaded_is_what_the_plan_said(numbers: Draw, chain: Any) -> None:
    given, module = arrays(numbers), two(chain)
    plan = bridge.load(module, given, strict=True)
    assert [copy.target for copy in plan.copied.values()] == ["a.weight", "a.bias", "b.weight", "b.bias"]
    for name in ("a", "b"):
        assert torch.equal(module.get_submodule(name).weight, torch.from_numpy(given[f"{name}/kernel"]).T)
        assert torch.equal(module.get_submodule(name).bias, torch.from_numpy(given[f"{name}/bias"]))


REFUSED: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "a shape that does not fit": lambda numbers: arrays(numbers, b_kernel=numbers(4, 3)),
    "another number of dimensions": lambda numbers: arrays(numbers, b_kernel=numbers(4, 2, 1)),
    "objects": lambda numbers: arrays(numbers, b_bias=np.array([None, "x"])),
    "text": lambda numbers: arrays(numbers, b_bias=np.array(["x", "y"])),
    "complex numbers": lambda numbers: arrays(numbers, b_bias=numbers(2).astype(np.complex64)),
    "long doubles": lambda numbers: arrays(numbers, b_bias=numbers(2).astype(np.longdouble)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_load_leaves_every_bit_as_it_was(
    make: Callable[[Draw], dict[str, Any]], numbers: Draw, chain: Any, unchanged: Any
) -> None:
    module = two(chain)
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"b/(kernel|bias)"):
        bridge.load(module, make(numbers))
    assert same()


def test_compressed_numbers_that_are_damaged_leave_every_bit_as_it_was(
    written: Write, numbers: Draw, chain: Any, unchanged: Any
) -> None:
    layers = {"a": {"kernel": numbers(3, 4), "bias": numbers(4)}, "b": {"kernel": numbers(4, 2), "bias": numbers(2)}}
    path, module = written(layers, compression="gzip"), two(chain)
    with h5py.File(path) as file:
        chunk = file["b/bias"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"made\.h5.*damaged.*Get the file again"):
        bridge.load(module, path)
    assert same()


ODD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a list": lambda a: a.tolist(),
    "negative strides": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "another order in memory": np.asfortranarray,
    "the other byte order": lambda a: a.astype(">f4"),
    "double precision": lambda a: a.astype(np.float64),
    "every other value": lambda a: np.repeat(a, 2, axis=0)[::2],
}


@pytest.mark.parametrize("lay", ODD.values(), ids=ODD.keys())
def test_arrays_may_lie_in_memory_in_any_way(
    lay: Callable[[np.ndarray], np.ndarray], numbers: Draw, chain: Any
) -> None:
    given, module = arrays(numbers), two(chain)
    bridge.load(module, {key: lay(array) for key, array in given.items()}, strict=True)
    assert torch.equal(module.a.weight, torch.from_numpy(given["a/kernel"]).T)
    assert torch.equal(module.b.bias, torch.from_numpy(given["b/bias"]))


def test_arrays_may_be_read_only_and_stay_the_callers(numbers: Draw, chain: Any) -> None:
    given, module = arrays(numbers), two(chain)
    for array in given.values():
        array.flags.writeable = False
    bridge.load(module, given, strict=True)
    with torch.no_grad():
        module.a.weight.zero_()
    np.testing.assert_array_equal(given["a/kernel"], numbers(3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_module_keeps_its_precision(dtype: torch.dtype, numbers: Draw, chain: Any) -> None:
    module = two(chain).to(dtype)
    bridge.load(module, arrays(numbers))
    assert module.a.weight.dtype == dtype
    assert torch.equal(module.a.weight, torch.from_numpy(numbers(3, 4)).T.to(dtype))


def test_the_module_keeps_its_memory_layout_its_frozen_parts_and_its_mode(numbers: Draw, chain: Any) -> None:
    module = chain(("conv", nn.Conv2d(3, 4, 2))).to(memory_format=torch.channels_last).train()
    module.conv.weight.requires_grad_(False)
    weight = module.conv.weight
    bridge.load(module, {"conv/kernel": numbers(2, 2, 3, 4), "conv/bias": numbers(4)})
    assert module.conv.weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert (weight.requires_grad, module.conv.bias.requires_grad, module.training) == (False, True, True)
    assert torch.equal(weight, torch.from_numpy(numbers(2, 2, 3, 4)).permute(3, 2, 0, 1))


def test_a_compiled_module_is_loaded_like_its_original(numbers: Draw, chain: Any) -> None:
    module = two(chain)
    plan = bridge.load(torch.compile(module), arrays(numbers), strict=True)
    assert list(plan.copied) == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    assert torch.equal(module.a.weight, torch.from_numpy(numbers(3, 4)).T)


def test_a_module_without_memory_is_refused(numbers: Draw) -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(bridge.BridgeError, match=r"0\.weight is on the meta device.*to_empty"):
        bridge.load(module, {"0/kernel": numbers(3, 4)})


def test_weights_of_another_type_are_refused_by_it(chain: Any) -> None:
    with pytest.raises(bridge.BridgeError, match="not a int"):
        bridge.load(two(chain), 3)  # type: ignore[arg-type]


def test_a_tied_weight_needs_one_source(numbers: Draw, chain: Any) -> None:
    module = chain(("encoder", nn.Linear(3, 3)), ("decoder", nn.Linear(3, 3)))
    module.decoder.weight = module.encoder.weight
    given = {"encoder/kernel": numbers(3, 3), "encoder/bias": numbers(3), "decoder/bias": numbers(3, seed=1)}
    plan = bridge.load(module, given, strict=True)
    assert plan.untouched == ()
    assert module.decoder.weight is module.encoder.weight
    assert torch.equal(module.decoder.weight, torch.from_numpy(numbers(3, 3)).T)


def test_a_shared_layer_is_loaded_once_under_either_name(numbers: Draw, chain: Any) -> None:
    layer = nn.Linear(3, 4)
    for name in ("first", "second"):
        plan = bridge.load(
            chain(("first", layer), ("second", layer)),
            {f"{name}/kernel": numbers(3, 4), f"{name}/bias": numbers(4)},
            strict=True,
        )
        assert len(plan.copied) == 2
        assert torch.equal(layer.weight, torch.from_numpy(numbers(3, 4)).T)


def test_two_different_sources_of_one_tied_weight_are_refused(numbers: Draw, chain: Any, unchanged: Any) -> None:
    module = chain(("a", nn.Linear(3, 3, bias=False)), ("b", nn.Linear(3, 3, bias=False)))
    module.b.weight = module.a.weight
    equal = {"a/kernel": numbers(3, 3), "b/kernel": numbers(3, 3)}
    assert len(bridge.load(module, equal, strict=True).copied) == 2
    same = unchanged(module)
    with pytest.raises(bridge.BridgeError, match=r"a/kernel and b/kernel differ.*one tensor"):
        bridge.load(module, equal | {"b/kernel": numbers(3, 3, seed=1)})
    assert same()


def test_what_a_keras_layer_does_without_is_filled_with_what_it_computes_with(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, chain: Any
) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 5, 3)),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(scale=False, name="no_scale"),
            layers.Conv2DTranspose(5, 2, use_bias=False, name="up"),
            layers.BatchNormalization(center=False, name="no_center"),
            layers.BatchNormalization(scale=False, center=False, name="neither"),
            layers.Dense(2, use_bias=False, name="not_here"),
        ]
    )
    model.pop()
    module = chain(
        ("conv", nn.Conv2d(3, 4, 3)),
        ("no_scale", nn.BatchNorm2d(4, eps=1e-3)),
        ("up", nn.ConvTranspose2d(4, 5, 2)),
        ("no_center", nn.BatchNorm2d(5, eps=1e-3)),
        ("neither", nn.BatchNorm2d(5, eps=1e-3)),
    )
    plan = bridge.load(module, saved(randomised(model)), strict=True)
    assert plan.filled == {
        "conv.bias": 0.0,
        "no_scale.weight": 1.0,
        "up.bias": 0.0,
        "no_center.bias": 0.0,
        "neither.weight": 1.0,
        "neither.bias": 0.0,
    }
    assert "conv.bias" in str(plan)
    assert {"target": "no_scale.weight", "value": 1.0} in plan.to_dict()["filled"]
    assert_same(model, module, images(2, 6, 5, 3))


def test_skipped_weights_are_not_filled_either(numbers: Draw, chain: Any) -> None:
    module = two(chain)
    before = module.a.bias.clone()
    plan = bridge.load(module, {"a/kernel": numbers(3, 4), "a/bias": numbers(4)}, skip="a/bias")
    assert plan.filled == {}
    assert torch.equal(module.a.bias, before)
    assert plan.untouched[0] == "a.bias"


LAYERS = st.lists(
    st.one_of(
        st.tuples(st.just("conv"), st.integers(1, 3), st.integers(1, 2), st.booleans()),
        st.tuples(st.just("up"), st.integers(1, 3), st.integers(1, 2), st.booleans()),
        st.tuples(st.just("bn"), st.just(0), st.just(0), st.booleans()),
        st.tuples(st.just("pool"), st.just(0), st.just(0), st.just(False)),
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking builds hundreds of models
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=LAYERS,
    dense=st.integers(0, 2),
    named=st.booleans(),
    size=st.tuples(st.integers(9, 14), st.integers(9, 14)),
    seed=st.integers(0, 99),
)
def test_any_chain_of_layers_gives_what_keras_gives(
    steps: list[tuple[str, int, int, bool]],
    dense: int,
    named: bool,
    size: tuple[int, int],
    seed: int,
    keras: Any,
    randomised: Any,
    saved: Any,
    assert_same: Any,
    images: Any,
    chain: Any,
) -> None:
    layers = keras.layers
    x = inputs = layers.Input((*size, 3))
    ours: list[tuple[str, nn.Module]] = []
    counts: dict[str, int] = {}
    prefixes = {"conv": "conv2d", "up": "conv2d_transpose", "bn": "batch_normalization", "dense": "dense"}

    def name(kind: str) -> tuple[dict[str, str], str]:
        rank = counts[kind] = counts.get(kind, -1) + 1
        own = f"my_{kind}{rank}" if named else prefixes[kind] + (f"_{rank}" if rank else "")
        return ({"name": own} if named else {}), own

    channels = 3
    for kind, width, kernel, flag in steps:
        if kind == "pool":
            if min(x.shape[1:3]) < 2:
                continue
            x = layers.MaxPooling2D()(x)
            ours.append(("", nn.MaxPool2d(2)))
            continue
        given, own = name(kind)
        if kind == "bn":
            x = layers.BatchNormalization(scale=flag, **given)(x)
            ours.append((own, nn.BatchNorm2d(channels, eps=1e-3)))
            continue
        kernel = min(kernel, *x.shape[1:3])
        if kind == "conv":
            x = layers.Conv2D(width, kernel, use_bias=flag, **given)(x)
            ours.append((own, nn.Conv2d(channels, width, kernel)))
        else:
            x = layers.Conv2DTranspose(width, kernel, strides=kernel, use_bias=flag, **given)(x)
            ours.append((own, nn.ConvTranspose2d(channels, width, kernel, stride=kernel)))
        channels = width
    if dense:
        x = layers.Flatten()(x)
        ours.append(FLATTEN)
    for _ in range(dense):
        given, own = name("dense")
        ours.append((own, nn.Linear(x.shape[-1], 4)))
        x = layers.Dense(4, **given)(x)
    model = randomised(keras.Model(inputs, x), seed)
    if not model.weights:
        return
    module = chain(*ours)
    bridge.load(module, saved(model), strict=True)
    assert_same(model, module, images(2, *size, 3, seed=seed))
