"""What was said on the command line, as the values that the functions of the bridge take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..adapt import read_classes
from ..errors import BridgeError
from ..formats import read
from ..options import Choices
from ..source import Shape, Source


def opened(file: str, options: argparse.Namespace) -> Source:
    """The file, read as the options say."""
    return read(
        file,
        largest=options.largest,
        dim_ordering=options.dim_ordering,
        kernels=options.kernels,
        flatten=maps(getattr(options, "flatten", ()), "flatten"),
    )


def choices(options: argparse.Namespace) -> Choices:
    """The options of a match or a conversion."""
    given: Choices = {
        "skip": options.skip,
        "flatten": maps(options.flatten, "flatten"),
        "unflatten": maps(options.unflatten, "unflatten"),
        "in_channels": options.in_channels,
        "flip_input": options.flip_input,
        "fold_batch_norm": options.fold_batch_norm,
        "classes": read_classes(*options.classes) if options.classes else None,
    }
    if "into" in options:
        given |= {
            "prefix": options.prefix,
            "rename": [pair(text, "rename", "OLD=NEW") for text in options.rename],
            "strict": options.strict,
            "names": options.names,
            "by": options.by,
        }
    return given


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """An option of the form OLD=NEW."""
    old, equals, new = text.partition("=")
    if not (old and equals):
        raise BridgeError(f"--{option} {text!r} is not of the form {form}.")
    return old, new


def maps(texts: Sequence[str], option: str) -> dict[str, Shape | list[Shape] | None]:
    """What is said of each layer; two different things of one are refused."""
    found: dict[str, Shape | list[Shape] | None] = {}
    for layer, map_ in (flattened(text, option) for text in texts):
        if found.setdefault(layer, map_) != map_:
            raise BridgeError(f"--{option} says two things of {layer}: {found[layer]} and {map_}.")
    return found


def flattened(text: str, option: str) -> tuple[str, Shape | list[Shape] | None]:
    """An option of the form LAYER=HxWxC (two to four sizes), LAYER=HxWxC+N for one beside others, or LAYER=none."""
    layer, map_ = pair(text, option, "LAYER=HxWxC")
    if map_ == "none":
        return layer, None
    parts = [part.split("x") for part in map_.split("+")]
    least = 2 if len(parts) == 1 else 1
    if not all(least <= len(part) <= 4 and all(each.isdecimal() for each in part) for part in parts):
        raise BridgeError(f"--{option} {text!r} is not of the form LAYER=HxWxC.")
    sizes = [tuple(int(each) for each in part) for part in parts]
    return layer, sizes[0] if len(sizes) == 1 else sizes
