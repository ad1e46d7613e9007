"""Weights as a file that Keras loads: a new one from a module alone, or one like an existing file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..arguments import check_module
from ..errors import BridgeError
from ..files import tail
from ..files.atomic import destination, refuse_same, replacing
from ..formats import read
from ..layers.transform import Transform
from ..matching.slots import unlike_keras
from ..options import Choices, Options
from ..source import Source, split
from . import legacy, patched
from .backward import of_module, of_state
from .structure import layers_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

LEGACY, WEIGHTS, ARCHIVE = ".h5", ".weights.h5", ".keras"
KERAS_ENDINGS = (WEIGHTS, LEGACY, ARCHIVE)


def save(
    module: nn.Module,
    path: str | PathLike[str],
    like: str | PathLike[str] | Source | None = None,
    **choices: Unpack[Choices],
) -> Path:
    """Write the module's weights as a Keras file: `.h5`, `.weights.h5` or `.keras`, by the ending.

    With `like`, a Keras file that the module's weights come from or could be loaded from, everything but
    the numbers is that file's: names, structure, configuration. Without it the file is a legacy weights-only
    `.h5`, which Keras loads in the model's order or by name. The choices are those of `bridge.load`; what is
    skipped keeps the numbers of `like`.

    Refused: another ending, one that needs `like` without it, weights that the file has no place for or
    the module no counterpart of, parameters that Keras's layer cannot compute with.
    """
    check_module(module)
    target, options = destination(path), Options.of(choices)
    for name in ("in_channels", "flip_input", "fold_batch_norm", "classes"):
        if getattr(options, name) not in (None, False):
            raise BridgeError(f"{path}: save writes weights as they are. Leave {name} out, which is for load.")
    if reason := unlike_keras(module):
        raise BridgeError(f"{path}: {type(module).__name__} is more than its weights: {reason}")
    if like is None:
        if ending(target) != LEGACY:
            raise BridgeError(f"{target}: a {ending(target)} file needs like=, a Keras file of that structure.")
        return _write_legacy(layers_of(module, options), target)
    given = _fitting(like if isinstance(like, Source) else read(like), target)
    refuse_same(target, given.files)
    return _write(given, of_module(module, given, options), target)


def write_state(state: Source, path: Path, like: Source, options: Options) -> dict[str, tuple[str, Transform]]:
    """The same from a converted file, whose tensors are named as `convert` names them. Gives what went where."""
    arrays, went = of_state(state, _fitting(like, path), options)
    _write(like, arrays, path)
    return went


def write_source(source: Source, path: Path, keys: Sequence[str]) -> Path:
    """These arrays of a Keras file of any age as a legacy file of today's layout, which every Keras from 2 on loads."""
    if ending(path) != LEGACY:
        raise BridgeError(f"{path}: a {ending(path)} file needs like=, a Keras file of that structure.")
    _fitting(source, path)
    return _write_legacy(_grouped({key: torch.from_numpy(source[key]) for key in keys}), path)


def ending(path: Path) -> str:
    """Which of Keras's formats a path asks for; another ending is refused."""
    for known in KERAS_ENDINGS:
        if path.name.endswith(known):
            return known
    raise BridgeError(f"{path} should end in .h5, .weights.h5 or .keras.")


# What each ending can be written like; a legacy file takes no more than names from one of another format.
FORMATS = {
    LEGACY: ("keras-h5-weights", "keras-h5-model"),
    WEIGHTS: ("keras-v3-weights", "keras-v3-archive"),
    ARCHIVE: ("keras-v3-archive",),
}


def _fitting(like: Source, path: Path) -> Source:
    """The file to write like, where a file of that ending can be."""
    wanted = ending(path)
    if like.layout != "keras":
        raise BridgeError(f"{like.name} is no Keras file, so nothing can be written like it.")
    if like.undecided:
        raise BridgeError(f"{like.name}: {like.undecided}")
    if wanted != LEGACY and like.format not in FORMATS[wanted]:
        raise BridgeError(
            f"{path} needs the structure of another {wanted} file; {like.name} is {like.format}. "
            f"Give a {wanted} file of that model instead, or write an .h5 file."
        )
    return like


def _write(like: Source, arrays: Mapping[str, Tensor], path: Path) -> Path:
    wanted = ending(path)
    if like.format not in FORMATS[wanted]:
        if missing := [key for key in like if key not in arrays]:
            raise BridgeError(
                f"{path}: {missing[0]} is skipped, and a file of another format than {like.name} needs it."
            )
        return _write_legacy(_grouped({key: arrays[key] for key in like}), path)
    with replacing(path) as beside:
        (patched.write_archive if wanted == ARCHIVE else patched.write_file)(like, arrays, beside)
    return path


def _write_legacy(layers: Mapping[str, Mapping[str, Tensor]], path: Path) -> Path:
    if not layers:
        raise BridgeError(f"{path} would hold nothing: no layer that Keras knows is left to write.")
    whole = legacy.content(layers)
    with replacing(path) as beside:
        beside.write_bytes(whole)
        tail.append(beside)
    return path


def _grouped(arrays: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Layers at the top level, as a weights-only file has them: a nested model is one layer."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        outer, _, inner = split(key)[0].partition("/")
        role = split(key)[1]
        layers.setdefault(outer, {})[f"{inner}/{role}".lstrip("/")] = array
    return layers
