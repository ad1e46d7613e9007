"""A flattened map beside other values, in front of a Dense layer: each in its place, or nothing is loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_forms import FORMS, file_of, tree
from torch import nn

import bridge

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


@pytest.mark.parametrize("form", FORMS)
def test_a_map_beside_a_vector_is_put_in_order_where_the_file_or_the_user_says_so(
    form: str, keras: Any, randomised: Any, saved: Any, tmp_path: Path, bridge_cli: Any
) -> None:
    layers = keras.layers
    picture, vector = layers.Input((5, 5, 2)), layers.Input((3,))
    row = layers.Concatenate()([layers.Flatten()(layers.Conv2D(4, 3, name="conv")(picture)), vector])
    row = layers.BatchNormalization(name="norm")(row)
    model = randomised(keras.Model([picture, vector], layers.Dense(6, name="fc")(row)))
    path = file_of(model, form, saved, tmp_path)
    norm = nn.BatchNorm1d(39, eps=1e-3, momentum=0.01)
    module = tree(conv=nn.Conv2d(2, 4, 3), norm=norm, fc=nn.Linear(39, 6)).eval()
    said = ((3, 3, 4), 3)
    options: dict[str, Any] = {} if form in ("whole", ".keras") else {"flatten": {"norm": said, "fc": said}}
    if options:
        with pytest.raises(bridge.BridgeError, match=r"39 flattened values, and the file does not say of which map"):
            bridge.load(module, path)
        with pytest.raises(bridge.BridgeError, match=r"takes 39 values, not those of \(\(3, 3, 4\), 4\)"):
            bridge.load(module, path, flatten={"norm": said, "fc": ((3, 3, 4), 4)})
    bridge.load(module, path, strict=True, **options)
    a, b = torch.randn(2, 2, 5, 5), torch.randn(2, 3)
    given = module.fc(norm(torch.cat([module.conv(a).flatten(1), b], 1))).detach()
    expected = model([a.permute(0, 2, 3, 1).numpy(), b.numpy()], training=False).detach()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    assert bridge.verify(module, path, **options).ok
    back = bridge.save(
        module, tmp_path / f"back{'.h5' if 'we' in form[:2] or form == 'whole' else form}", like=path, **options
    )
    for key, array in bridge.read(path).items():
        np.testing.assert_array_equal(bridge.read(back)[key], array)
    flags = ["--flatten", "norm=3x3x4+3", "--flatten", "fc=3x3x4+3"]
    assert bridge_cli("convert", path, tmp_path / "converted.safetensors", *flags).code == 0
    other = tree(conv=nn.Conv2d(2, 4, 3), norm=nn.BatchNorm1d(39), fc=nn.Linear(39, 6))
    bridge.load(other, tmp_path / "converted.safetensors", strict=True)
    assert torch.equal(other.fc.weight, module.fc.weight)
    with torch.no_grad():
        module.fc.weight.copy_(module.fc.weight.flip(1).clone())
    assert not bridge.verify(module, path, **options).ok


def test_a_pooled_map_beside_a_vector_has_no_order(written: Any, numbers: Any) -> None:
    path = written({"conv": {"conv/kernel:0": numbers(3, 3, 2, 8)}, "fc": {"fc/kernel:0": numbers(11, 5)}})
    module = tree(conv=nn.Conv2d(2, 8, 3, bias=False), fc=nn.Linear(11, 5, bias=False))
    assert bridge.load(module, path, strict=True).copied["fc/kernel"].steps == "axes (1, 0)"


def test_another_branch_between_a_map_and_what_takes_both_hides_nothing(written: Any, numbers: Any) -> None:
    layers = {"conv": numbers(3, 3, 2, 4), "branch": numbers(3, 7), "fc": numbers(43, 5)}
    path = written({name: {f"{name}/kernel:0": array} for name, array in layers.items()})
    module = tree(
        conv=nn.Conv2d(2, 4, 3, bias=False), branch=nn.Linear(3, 7, bias=False), fc=nn.Linear(43, 5, bias=False)
    )
    with pytest.raises(bridge.BridgeError, match=r"fc takes 43 flattened values.* beside 10 other values"):
        bridge.load(module, path)
