"""A weights file as another one: PyTorch's under any naming scheme, or Keras's again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .adaptation import adapted
from .errors import BridgeError
from .files import atomic, tail
from .flattening.flatten import doubts
from .formats import read
from .layers.normalised import turned
from .layers.recurrent import special
from .layers.transform import Transform, identity
from .layers.unclassed import guessed
from .matching.image_notes import image_notes
from .matching.inside import note_on
from .naming import names
from .options import Choices, Options
from .source import Source, split
from .state_dict import Entry, as_state, chosen_model, entries
from .torch_files import pickled_files, safetensors_files
from .version import VERSION
from .write import KERAS_ENDINGS, write_source, write_state

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Conversion:
    """What became of each tensor: its new name and how it got there, or why it was left out."""

    path: Path
    converted: Mapping[str, tuple[str, Transform]]
    skipped: Mapping[str, str]
    notes: tuple[str, ...] = ()


def convert(
    source: str | PathLike[str] | Source,
    destination: str | PathLike[str],
    *,
    to: str = "keras",
    like: str | PathLike[str] | None = None,
    **choices: Unpack[Choices],
) -> Conversion:
    """Write the weights of `source` to a .safetensors, .pt or .pth file, in PyTorch's axes, or back to a Keras file.

    `to` is the scheme that names the tensors: "keras" after the file's own layers (`block1_conv1.weight`),
    "torchvision" after torchvision's VGG (`features.0.weight`), and so on. Of the `choices` those that need
    no module are taken: skip, flatten, unflatten and the adaptations. The header of a .safetensors file
    tells where the weights came from. Refused: layer kinds that are not known, another ending, the source
    as destination.

    A destination ending in .h5, .weights.h5 or .keras is written for Keras: from a converted file, whose
    tensors are named as this function names them, `like` the Keras file they came from.
    """
    options = Options.of(choices)
    path = atomic.destination(destination)
    given = source if isinstance(source, Source) else read(source)
    atomic.refuse_same(path, given.files)
    if path.name.endswith(KERAS_ENDINGS):
        return _to_keras(given, path, like, options)
    write = _writer(path)
    if like is not None:
        raise BridgeError(f"{path}: like is for files that Keras loads: .h5, .weights.h5 or .keras.")
    options.check_skips([*given, *given.layers])
    options.check_flatten(given.layers)
    changed = adapted(given, options)
    if partial := [key for key, stored in changed.stored.items() if stored.rows is not None]:
        raise BridgeError(f"{given.name}: the new classes have no rows in {partial[0]}. Load into a module instead.")
    scheme = names.scheme(to)
    named = entries(changed, scheme, options)
    tensors = {entry.name: entry.tensor(changed) for entry in named}
    with atomic.replacing(path) as beside:
        write(tensors, beside, metadata(changed) | {"order": "\n".join(tensors)})
    model = chosen_model(changed, scheme, options)
    notes = [*changed.notes, *([note_on(model)] if model else []), *special(changed), *guessed(changed)]
    notes += [*image_notes(changed), *doubts(changed, options)]
    if changed.preprocessing and path.suffix != ".safetensors":
        notes.append(f"{path.name} cannot say that it expects {changed.preprocessing}; a .safetensors file does.")
    if changed.layout == "keras":
        notes += turned(changed, {entry.key: entry.transform for entry in named})
    return Conversion(path, _shown(named), _skipped(given, changed, named, options, to), tuple(notes))


def _to_keras(given: Source, path: Path, like: str | PathLike[str] | None, options: Options) -> Conversion:
    changed = adapted(given, options)
    if like is None and given.layout == "torch":
        raise BridgeError(f"{path} needs --like, the Keras file that the weights in {given.name} came from.")
    structure = None if like is None else read(like)
    known = [source for source in (given, structure) if source is not None]
    options.check_skips([name for source in known for name in (*source, *source.layers)])
    left_out = {key: "left out by skip" for key in changed if options.skips([key, split(key)[0]])}
    if structure is None:
        kept = {key: (key, identity(shape)) for key, shape in changed.shapes.items() if key not in left_out}
        write_source(changed, path, list(kept))
        return Conversion(path, kept, left_out, (*changed.notes, *_unsaid(changed, path)))
    atomic.refuse_same(path, structure.files)
    notes, expected = changed.notes, changed
    if changed.layout == "keras":
        changed = as_state(changed, options)
    written = write_state(changed, path, structure, options)
    skipped = {key: f"{structure.name} has no place for it" for key in changed if key not in written}
    skipped |= {key: why for key, why in left_out.items() if key not in written}
    return Conversion(path, written, skipped, (*notes, *_unsaid(expected, path)))


def _unsaid(given: Source, path: Path) -> list[str]:
    """A note where a Keras file does not tell which images its weights expect."""
    if given.preprocessing is None or read(path).preprocessing == given.preprocessing:
        return []
    return [f"{path.name} does not say that it expects {given.preprocessing}; prepare its images so."]


def metadata(source: Source) -> dict[str, str]:
    """Where weights came from, for the header of a .safetensors file."""
    described = {
        "source_file": source.name,
        "source_sha256": _sha256(source.parts[0] if source.path.is_dir() else source.path) if source.path else None,
        "format": source.format,
        "keras_version": source.keras_version,
        "preprocessing": json.dumps(source.preprocessing.to_dict()) if source.preprocessing else None,
        "torch_convae_version": VERSION,
    }
    return {key: value for key, value in described.items() if value is not None}


def _shown(named: list[Entry]) -> dict[str, tuple[str, Transform]]:
    shown: dict[str, tuple[str, Transform]] = {}
    for entry in named:
        if entry.fill is None:
            row = entry.transform.row
            shown[entry.key if row is None else f"{entry.key}[{row}]"] = (entry.name, entry.transform)
    return shown


def _skipped(given: Source, changed: Source, named: list[Entry], options: Options, to: str) -> dict[str, str]:
    done = {entry.key for entry in named}
    reasons = {key: "folded into the layer in front of it" for key in given if key not in changed}
    for key in changed:
        if key not in done:
            left_out = options.skips([key, split(key)[0]])
            reasons[key] = "left out by skip" if left_out else f"{to} has no name for it"
    return reasons


Writer = Callable[[dict[str, Tensor], Path, dict[str, str]], None]


def _writer(path: Path) -> Writer:
    writers = {".safetensors": safetensors_files.write, ".pt": _write_pickled, ".pth": _write_pickled}
    if path.suffix not in writers:
        raise BridgeError(f"{path} should end in .safetensors, .pt or .pth, or in {', '.join(KERAS_ENDINGS)}.")
    return writers[path.suffix]


def _write_pickled(tensors: dict[str, Tensor], path: Path, _: dict[str, str]) -> None:
    pickled_files.write(tensors, path)
    tail.append(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
