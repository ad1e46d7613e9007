"""Keras 3's own formats: .weights.h5, in one file or in shards, and .keras, zipped or as a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BridgeError
from ..hdf5 import LARGEST, File, Group, open_file, refuse_more, shown
from ..options import shortened
from ..source import Source, Stored, key_of, split
from . import archive, json_data
from .configured import configured
from .saved import LAYERS, VARIABLES, saved
from .saved_layers import SavedLayer, layers
from .variables import QUANTISED, ROLES, SCALED_AND_CENTERED, SPECTRAL, USUAL, doubtful, quantised, roles

CONFIG, METADATA, WEIGHTS, PICKLED = "config.json", "metadata.json", "model.weights.h5", "model.weights.npz"
MOST_SHARDS = 1000
LONGEST_NAMES = 64 << 20  # of all layers together

# What is said of where layer names come from, the surest first.
NAMES = (
    "Layer names come from the file's name attributes.",
    "Layer names come from the model's configuration.",
    "Layer names are not in the file: class and order (conv2d, conv2d_1), or a model's attributes, stand for them.",
)
ORDER = "The file does not say the model's order: layers of different classes may stand in another one."
ATTRIBUTES = "The file does not say the model's order: a model that is a class keeps layers by their attributes' names."


def recognises(root: Group) -> bool:
    """Whether a tree is of Keras 3's making: arrays in a group called "vars", at whatever depth."""
    return VARIABLES in root.groups or any(recognises(inner) for inner in root.groups.values())


def read(file: File, config: Mapping[str, Any] | None = None) -> Source:
    """The weights of a .weights.h5 file under the user's layer names.

    They come from the file's name attributes (Keras 3.6 and later), else from `config`, the JSON data of
    the model (`model.to_json()`), else class and order stand for them; `notes` says which. Refused: a
    configuration of another model, quantised weights, and two layers of one name.
    """
    return _source([file], config, file.path, "keras-v3-weights")


def read_archive(
    path: Path, isolated: bool = True, largest: int = LARGEST, members: Mapping[str, archive.Member] | None = None
) -> Source:
    """The weights of a .keras file, which is not unpacked, and the architecture beside them.

    `members` are those of the archive, where they are known already.

    Refused: an archive that is damaged, encrypted or larger than `largest` when unpacked, that names
    files elsewhere, lacks a file or has it twice, and weights as pickled arrays.
    """
    members = dict(archive.members(path) if members is None else members)
    described = [members[name] for name in (CONFIG, METADATA) if name in members]
    config, version = _described({each.name: archive.content(each, json_data.LARGEST) for each in described}, path)
    if WEIGHTS not in members:
        raise BridgeError(_no_weights(path, PICKLED in members))
    if sum(member.size for member in members.values()) > largest:
        raise BridgeError(f"{path} takes more than the limit of {largest} bytes unpacked. Raise the limit to read it.")
    weights = members.pop(WEIGHTS)
    for member in members.values():
        archive.check(member)
    if weights.method == archive.STORED:
        archive.check(weights)
        file = open_file(path, isolated=isolated, largest=largest, start=weights.start, length=weights.size)
    else:
        file = open_file(path, isolated=isolated, largest=largest, unpacked=archive.unpacked(weights, largest))
    return _source([file], config, path, "keras-v3-archive", version)


def read_folder(path: Path, isolated: bool = True, largest: int = LARGEST) -> Source:
    """The same for a .keras folder (`zipped=False`)."""
    described = [path / name for name in (CONFIG, METADATA) if (path / name).is_file()]
    config, version = _described({each.name: json_data.content(each) for each in described}, path)
    if not (path / WEIGHTS).is_file():
        raise BridgeError(_no_weights(path, (path / PICKLED).exists()))
    file = open_file(path / WEIGHTS, isolated=isolated, largest=largest)
    source = _source([file], config, path, "keras-v3-archive", version)
    return replace(source, parts=tuple(path / name for name in (WEIGHTS, CONFIG, METADATA)))


def read_shards(
    path: Path, isolated: bool = True, largest: int = LARGEST, config: Mapping[str, Any] | None = None
) -> Source:
    """The weights of a .weights.json file, which says in which files beside it they are."""
    listed = json_data.parsed(json_data.content(path), str(path))
    weight_map = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BridgeError(f"{path} lists no weights: it has no weight_map. Give the .weights.json of sharded weights.")
    shards = {place: each if isinstance(each, list) else [each] for place, each in weight_map.items()}
    names = sorted({_shard(path, name) for each in shards.values() for name in each})
    if len(names) > MOST_SHARDS:
        raise BridgeError(f"{path} lists {len(names)} files, more than {MOST_SHARDS}. Save in larger shards.")
    for name in names:
        _refuse_elsewhere(path, name)
    if sum(path.with_name(name).stat().st_size for name in names) > largest:
        raise BridgeError(f"{path}: its files take more than the limit of {largest} bytes. Raise the limit to read it.")
    files = {name: open_file(path.with_name(name), isolated=isolated, largest=largest) for name in names}
    size = sum(file.content.size for file in files.values())
    refuse_more(path, [file.root for file in files.values()], size, largest)
    for place, name in ((place, name) for place, each in shards.items() for name in each):
        if not _holds(files[name], place):
            raise BridgeError(f"{path} lists {shown(place)} in {name}, which does not hold it. Get the files again.")
    source = _source(list(files.values()), config, path, "keras-v3-shards")
    return replace(source, parts=tuple(path.with_name(name) for name in names))


def _described(found: Mapping[str, bytes], path: Path) -> tuple[Mapping[str, Any], str | None]:
    """The model's configuration and Keras's version."""
    for name in (CONFIG, METADATA):
        if name not in found:
            raise BridgeError(f"{path} holds no {name}: it is not a whole .keras file. Get the file again.")
    config, metadata = (json_data.parsed(found[name], f"{path}: {name}") for name in (CONFIG, METADATA))
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise BridgeError(f"{path}: its config.json or metadata.json describes no model. Get the file again.")
    version = metadata.get("keras_version")
    return config, version if isinstance(version, str) else None


def _no_weights(path: Path, pickled: bool) -> str:
    if pickled:
        return f"{path} holds its weights as pickled arrays, and unpickling runs what is in the file. Save it as HDF5."
    return f"{path} holds no {WEIGHTS}: it is not a whole .keras file. Get the file again."


def _shard(path: Path, name: Any) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or {"/", "\\", "\0", ":"} & set(name):
        raise BridgeError(f"{path} lists a file {shown(str(name))}, which is not one beside it. Get the files again.")
    return name


def _refuse_elsewhere(path: Path, name: str) -> None:
    """A shard may be a link, as in the caches of model hubs, where the list is one into the same folder."""
    beside = path.with_name(name)
    try:
        inside = beside.is_file() and beside.resolve().parent in (path.parent.resolve(), path.resolve().parent)
    except OSError:  # a name that is too long, links in a circle
        inside = False
    if not inside:
        raise BridgeError(f"{path} lists {shown(name)}, which is not beside it. Put all files into one folder.")


def _holds(file: File, place: str) -> bool:
    group = file.root
    for part in place.strip("/").split("/"):
        if part not in group.groups:
            return False
        group = group.groups[part]
    return True


def _source(
    files: Sequence[File], config: Mapping[str, Any] | None, path: Path, form: str, version: str | None = None
) -> Source:
    said, model = configured(config), saved(files)
    order = ORDER if all(part.local.startswith(f"{LAYERS}/") for part in model.parts) else ATTRIBUTES
    writer = version or (config or {}).get("keras_version")  # which model.to_json() of Keras 2 says
    found = _bounded(layers(model, said, path, keras_2=str(writer).startswith("2.")), path)
    stored = _stored(found, path)
    source = Source(
        stored,
        format=form,
        path=path,
        keras_version=version,
        architecture=config if said else None,
        kinds=_kinds(found),
        twins=_twins(found, stored),
        unsure=frozenset(layer.path for layer in found if _is_unsure(layer)),
        notes=(*_notes(found), *(() if said else (order,))),
    )
    if not source:
        raise BridgeError(f"{path} holds no weights. Build the model, by calling it once, before you save it.")
    return source.recognised()


def _bounded(found: Iterator[SavedLayer], path: Path) -> list[SavedLayer]:
    """All of them, unless their paths, which repeat the names of the models around, take too much memory."""
    kept: list[SavedLayer] = []
    length = 0
    for layer in found:
        length += len(layer.path)
        if length > LONGEST_NAMES:
            raise BridgeError(f"{path}: its layers' names are far longer than any model's. Get the file again.")
        kept.append(layer)
    return kept


def _kinds(found: Sequence[SavedLayer]) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for layer in found:
        if layer.path and layer.kind and (layer.arrays or layer.path not in kinds):
            kinds[layer.path] = layer.kind
    return kinds


def _stored(found: Sequence[SavedLayer], path: Path) -> dict[str, Stored]:
    stored: dict[str, Stored] = {}
    for layer in found:
        for role, tensor in zip(_roles(layer, path), layer.arrays, strict=True):
            if layer.kind == SPECTRAL and role == "kernel":
                continue  # that of the layer inside, which holds it, too: a twin
            key = key_of(layer.path, role)
            if key in stored:
                raise BridgeError(f"{path}: two weights are both called {shown(key)}. Give each layer its own name.")
            stored[key] = tensor
    return stored


def _twins(found: Sequence[SavedLayer], stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """The kernels that stand in a wrapper, too, by the keys that they have in the layer inside."""
    doubled = {layer.path: layer.arrays[0] for layer in found if layer.kind == SPECTRAL and layer.arrays}
    twins = {}
    for key in stored:
        inner, role = split(key)
        twin = doubled.get(split(inner)[0])
        if twin is not None and role in ("kernel", "embeddings") and twin.shape == stored[key].shape:
            twins[key] = twin
    return twins


def _roles(layer: SavedLayer, path: Path) -> tuple[str, ...]:
    shapes = layer.shapes
    if not all(name.isdecimal() for name in layer.names):  # a layer of the user's own that names them
        return layer.names
    if not layer.path:  # the model's own, of which nothing is known
        return tuple(f"param_{name}" for name in layer.names)
    found = roles(layer.kind, shapes, layer.config)
    said = found or roles(None, shapes, None) or ()
    where = f"{path}: layer {shown(layer.path)}"
    for role, tensor in zip(said, layer.arrays, strict=True):
        if tensor.dtype in QUANTISED and (layer.kind in ROLES or not role.startswith("param_")):
            raise BridgeError(quantised(where, tensor.dtype))
    if found is None and layer.config is not None and not layer.own:
        raise BridgeError(
            f"{where} holds {len(shapes)} arrays, which are not those of the {layer.kind} that the "
            "configuration has. Give the configuration of this model, or save it before it is quantised."
        )
    return said


def _is_own(layer: SavedLayer) -> bool:
    """Whether it is of a class of the user's own that has the name, and as many weights, of one of Keras's."""
    if not layer.own or not layer.arrays or layer.kind not in {*ROLES, *SCALED_AND_CENTERED}:
        return False
    return roles(layer.kind, layer.shapes, layer.config) is not None


def _is_unsure(layer: SavedLayer) -> bool:
    return doubtful(layer.kind, layer.shapes, layer.config)


def _notes(found: Sequence[SavedLayer]) -> Iterator[str]:
    named = [layer.origin for layer in found if layer.arrays and layer.path]
    yield NAMES[max(named, default=0)]
    if own := [each for each in found if _is_own(each)]:
        paths = shortened([f"{each.path} ({each.kind})" for each in own])
        yield f"{paths}: the class is not Keras's but one of that name, whose weights are taken to be in Keras's order."
    unsure = [each for each in found if _is_unsure(each)]
    for kind in dict.fromkeys(each.kind for each in unsure):
        role = USUAL[str(kind)]
        paths = shortened([each.path for each in unsure if each.kind == kind], 3)
        one = "one of gamma and beta is there and the file does not say which"
        yield f"{paths} ({kind}): {one}; it is read as {role}."
