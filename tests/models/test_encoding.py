"""`encode` gives what `decode` needs, one row an image, and a frozen encoder's features may be kept."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
import small_models
import torch
from small_models import SMALL, small
from torch.utils._pytree import tree_flatten, tree_unflatten

from torch_convae.models import MODELS, VGG16Encoder

EVERY = pytest.mark.parametrize("name", small_models.EVERY)


def encoding(model: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """The parts that the model says `encode` runs."""
    for path, part in model.named_modules():
        if any(fnmatchcase(path, pattern) for pattern in model.ENCODING):
            yield path, part


def spoil(tensors: Any) -> None:
    for tensor in tensors:
        tensor.data.fill_(torch.nan)


def test_every_model_is_here() -> None:
    assert SMALL.keys() == MODELS.keys()


@EVERY
def test_forward_is_decode_of_encode(name: str) -> None:
    model, x = small(name)
    with torch.inference_mode():
        features = model.encode(x)
        assert torch.equal(model.decode(features), model(x))
        assert torch.equal(model.decode(features), model(x)), "decode changed the features it was given"


@EVERY
def test_features_have_a_row_for_each_image_and_can_be_put_together_anew(name: str) -> None:
    model, x = small(name)
    with torch.inference_mode():
        first, second = (tree_flatten(model.encode(image[None])) for image in x)
        assert {len(tensor) for tensor in first[0]} == {1}
        swapped = [torch.cat(rows) for rows in zip(second[0], first[0], strict=True)]
        given = model.decode(tree_unflatten(swapped, first[1]))
        torch.testing.assert_close(given, model(x.flip(0)), rtol=1e-4, atol=1e-5)


@EVERY
def test_encode_runs_the_parts_it_names_and_decode_runs_none_of_them(name: str) -> None:
    model, x = small(name)
    parts = [part for _, part in encoding(model)]
    inside = {id(tensor) for part in parts for tensor in [*part.parameters(), *part.buffers()]}
    every = [*model.parameters(), *model.buffers()]
    every = [tensor for tensor in every if tensor.is_floating_point()]
    with torch.inference_mode():
        features, expected = model.encode(x), model(x)
        spoil(tensor for tensor in every if id(tensor) not in inside)
        again = model.encode(x)
        assert all(map(torch.equal, tree_flatten(again)[0], tree_flatten(features)[0]))
    model, _ = small(name)
    parts = [part for _, part in encoding(model)]
    with torch.inference_mode():
        for part in parts:
            spoil(tensor for tensor in [*part.parameters(), *part.buffers()] if tensor.is_floating_point())
        assert torch.equal(model.decode(features), expected)


@pytest.mark.parametrize("name", ["convae", "segnet", "segnet_basic"])
def test_a_map_of_which_decode_needs_the_size_alone_takes_no_memory(name: str) -> None:
    model, x = small(name)
    empty = [tensor for tensor in tree_flatten(model.encode(x))[0] if not tensor.numel()]
    assert empty
    assert all(tensor.shape[1] == 0 for tensor in empty)


def test_an_encoder_alone_is_all_encoding() -> None:
    encoder = VGG16Encoder(widths=(4, 6, 8, 10, 12)).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert all(map(torch.equal, encoder.decode(encoder.encode(x)), encoder(x)))
