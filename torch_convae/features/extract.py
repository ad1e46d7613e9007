"""Images through a network as far as the layers that were asked for, and the file of what these gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.images import read_header
from ..errors import ConvaeError
from ..layers import Layer, capture, find, layers
from ..verbs.inputs import Failures, Item, read_all
from ..verbs.sources import Source, read_input, takes_sequences
from . import prepared
from .shape import axes, shaped
from .store import Store, storing


@dataclass(frozen=True)
class Asked:
    """Which layers, of images of which size, and what is made of their outputs."""

    layers: tuple[str, ...]
    size: tuple[int, int] | None
    pool: str | None
    order: str


@dataclass(frozen=True)
class Limits:
    """How many images are computed at once, and how many pixels of one are decoded."""

    batch_size: int
    largest: int


@dataclass(frozen=True)
class Target:
    """The file, and what its header says made it."""

    path: Path
    made: Mapping[str, str]


def extract(network: Source, given: Sequence[Item], asked: Asked, limits: Limits, target: Target) -> Failures:
    """Write the file. Images that cannot be used are left out and listed; where none can, nothing is written."""
    failures = Failures()
    among = Counter(item.name for item in given)  # of two folders, as "a/0.png" and "b/0.png"
    read = partial(read_input, network.model, size=asked.size, largest=limits.largest)
    with storing(target.path, len(given)) as store:
        found: dict[str, Layer] = {}
        for batch, images in read_all(given, read, failures, limits.batch_size):
            if not found:
                with network.sized():
                    known = layers(network.model, tuple(images.shape[1:]))
                found = {name: find(known, name) for name in asked.layers}
                _refuse_untouched(network, known, found)
                _refuse_unequal(given, asked, found)
            rows: dict[str, Tensor] = {}
            with failures.of(batch), network.sized():
                rows = _rows(network, images, found, asked)
            if rows:
                _refuse_other_shapes(batch[0], rows, store)
                store.add([item.name if among[item.name] == 1 else str(item.path) for item in batch], rows)
        if not store.files:
            raise ConvaeError(failures.all_of_them())
        written = {name: axes(layer, asked.pool, asked.order) for name, layer in found.items()}
        store.write(target.path, written, _about(network, asked, found, target))
        network.announce()
        inputs = "sequences" if takes_sequences(network.model) else "images"
        print(f"{target.path}: {len(store.files)} {inputs}, prepared as {network.model.preprocessing.mode}")
        for name, layer in found.items():
            shape = " x ".join(map(str, store.arrays[name].shape[1:]))
            print(f"  {name}: {shape}, axes {written[name]}" + (f", {layer.activation}" if layer.activation else ""))
    return failures


def _refuse_untouched(network: Source, known: Sequence[Layer], found: Mapping[str, Layer]) -> None:
    """Layers behind all that is asked for need no weights."""
    last = max(layer.step for layer in found.values())
    behind = {path for layer in known if layer.step > last for path in (layer.name, *layer.others)}
    behind -= {path for layer in known if layer.step <= last for path in (layer.name, *layer.others)}
    network.refuse_untouched(lambda path: path not in behind)


def _rows(network: Source, images: Tensor, found: Mapping[str, Layer], asked: Asked) -> dict[str, Tensor]:
    steps = frozenset(layer.step for layer in found.values())
    try:
        with torch.inference_mode():
            outputs = capture(network.model, prepared(network.model, images), steps)
    except RuntimeError as error:
        size, reason = " x ".join(map(str, images.shape[-2:])), str(error).split("\n")[0]
        raise ConvaeError(f"The network takes no image of {size} ({reason}). Give a --size.") from error
    return {
        name: shaped(layer, outputs[layer.step], len(images), asked.pool, asked.order) for name, layer in found.items()
    }


def _refuse_unequal(given: Sequence[Item], asked: Asked, found: Mapping[str, Layer]) -> None:
    """Maps of images of several sizes make no array: seen in the files' headers, before the long work."""
    maps = [name for name, layer in found.items() if len(layer.shape) >= 3]
    if asked.size or asked.pool in ("avg", "max") or not maps:
        return
    first: tuple[Item, set[int]] | None = None
    for item, size in _sizes(given):
        first = first or (item, size)
        if size != first[1]:
            raise ConvaeError(
                f"{item.path} is of another size than {first[0].path}, so that the maps of {maps[0]} make no array. "
                "Give a --size for all, or --pool avg or max."
            )


def _refuse_other_shapes(item: Item, rows: Mapping[str, Tensor], store: Store) -> None:
    """What headers did not tell: a picture that its camera turned, an array, a sequence of another length."""
    for name, tensor in rows.items():
        first = store.arrays[name].shape[1:] if name in store.arrays else tensor.shape[1:]
        if tuple(tensor.shape[1:]) != tuple(first):
            raise ConvaeError(
                f"{item.path} gives {name} as {tuple(tensor.shape[1:])}, but {store.files[0]} gave {tuple(first)}, and "
                "both make no array. Give inputs of one size, a --size for all, or --pool avg or max."
            )


def _sizes(given: Sequence[Item]) -> Iterator[tuple[Item, set[int]]]:
    """Height and width of what can be read, in any order: a camera that was turned is seen when decoding."""
    for item in given:
        try:
            header = read_header(item.path)
        except ConvaeError:
            continue
        yield item, {header.height, header.width}


def _about(network: Source, asked: Asked, found: Mapping[str, Layer], target: Target) -> dict[str, Any]:
    return {
        "made_by": dict(target.made),
        "network": network.what,
        "preprocessing": network.model.preprocessing.mode,
        "size": asked.size,
        "pool": asked.pool,
        "order": asked.order,
        "layers": {
            name: {"layer": layer.name, "kind": layer.kind, "activation": layer.activation}
            for name, layer in found.items()
        },
    }
