"""Which network a weights file is of, told from its tensors alone: the one that all of them fit, and fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch

from ..errors import ConvaeError
from ..models import MODELS, create
from ..weights import Source, fits, read_weights

Shapes = Mapping[str, tuple[int, ...]]
TOPS = ("predictions", "fc1000", "classifier", "classifier/6", "head/fc", "fc8")  # what the classes' layer is called

# The forms of each network that a file can be of; what depends on the file is None.
FORMS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("vgg16", {}),
    ("vgg16", {"classes": None, "size": None}),
    ("vgg16_bn", {}),
    ("vgg16_bn", {"classes": None, "size": None}),
    ("densenet121", {}),
    ("densenet121", {"classes": None}),
    ("convae", {}),
    ("convae-classifier", {"classes": None, "size": None}),
    *(("vgg16_unet", {"classes": None, "blocks": blocks}) for blocks in (5, 4, 3, 2)),
    *(("vgg16_unet", {"classes": None, "blocks": blocks, "batch_norm": True}) for blocks in (5, 4, 3, 2)),
    *(("azavea_unet", {"classes": None, "blocks": blocks}) for blocks in (5, 4, 3, 2)),
    *(("jocicmarko_unet", {"classes": None, "up": up}) for up in ("transpose", "upsample")),
    ("zhixuhao_unet", {"classes": None}),
    *(("shallow_unet", {"classes": None, "named_features": named}) for named in (True, False)),
    ("segnet", {"classes": None}),
    ("segnet_basic", {"classes": None}),
    *(("vgg_segnet", {"classes": None, "named_features": named}) for named in (True, False)),
    *(("vgg_unet", {"classes": None, "named_features": named}) for named in (True, False)),
    ("conv_vae", {}),
    ("encoder_gru", {}),
)


def recognise(path: Path, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """The name and the options of the network of a weights file, which may be said to be the model of that name.

    A file that fits none is refused.
    """
    source = read_weights(path)
    for form in FORMS:
        if name in (None, form[0]) and (options := _fitting(*form, source)) is not None:
            return form[0], options
    raise ConvaeError(
        f"{path} is of no network that is known here. Name one ({', '.join(MODELS)}), and give the file with --weights."
    )


def _fitting(name: str, form: Mapping[str, Any], source: Source) -> dict[str, Any] | None:
    """The options with which all tensors fit; None where none do."""
    for options in _filled(name, form, source):
        try:
            with torch.device("meta"):
                candidate = create(name, **options)
        except ConvaeError:
            continue
        if fits(candidate, source):
            return options
    return None


def _filled(name: str, form: Mapping[str, Any], source: Source) -> Iterator[dict[str, Any]]:
    """The form with what the tensors say of channels, classes and size."""
    options = dict(form)
    shapes = source.shapes
    channels = min(
        (shape[1 if source.layout == "torch" else 2] for shape in shapes.values() if len(shape) == 4), default=0
    )
    if channels and name != "encoder_gru":
        options["in_channels"] = channels
    if "size" in options:
        options["size"] = _size(name, shapes)
        if options["size"] is None:
            return
    for count in _class_counts(shapes) if "classes" in options else [None]:
        yield options if count is None else {**options, "classes": count}


def _class_counts(shapes: Shapes) -> list[int]:
    """What the layer of the classes may give out: by its name, else by its place at the end."""
    vectors = {key: shape[0] for key, shape in shapes.items() if len(shape) == 1}
    named = [size for key, size in vectors.items() if key.rpartition("/")[0] in TOPS]
    return list(dict.fromkeys([*named, *list(vectors.values())[-1:]]))


def _size(name: str, shapes: Shapes) -> int | None:
    """The side of square images, from the number of values that enter the first dense layer."""
    outputs, channels, halved = (128, 256, 4) if name == "convae-classifier" else (4096, 512, 32)
    for shape in shapes.values():
        if len(shape) == 2 and outputs in shape:
            pixels = max(shape) if min(shape) == outputs else min(shape)
            side = isqrt(pixels // channels)
            if side and side * side * channels == pixels:
                return side * halved
    return None
