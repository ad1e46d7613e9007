"""Legacy Keras HDF5, Keras 1 to 3: weights only and whole models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import architecture
from ..errors import BridgeError
from ..hdf5 import Dataset, File, Group, listed, shown
from ..layers.beside import Said
from ..source import Source, Stored
from . import json_data, old_arrays
from .halves import is_model, with_sides
from .spelling import spell
from .variables import QUANTISED, quantised

TOP_LEVEL = "top_level_model_weights"  # what a model has beside its layers
MOST_COMPARISONS = 50_000_000  # of names in the file with names in its configuration
LONGEST_NAMES = 64 << 20  # of all layers together, each with the names of those it is in


def read(
    file: File,
    dim_ordering: str | None = None,
    kernels: str | None = None,
    flatten: Mapping[str, Said | None] | None = None,
) -> Source:
    """Every weight of a legacy Keras file, in the model's order, under Keras 3's conventions.

    `dim_ordering`, `kernels` and `flatten` say what the file does not, as in `old_arrays.modern`.
    Refused: layers and weights that are listed and not there, that lie elsewhere, or that would have one name.
    """
    weights = file.child(file.root, "model_weights")
    if not isinstance(weights, Group) or listed(file.root, "layer_names") is not None:
        weights = file.root  # where a layer may be called model_weights
    names = listed(weights, "layer_names")
    if names is None:
        raise BridgeError(f"{file.path} holds no Keras layers: its top level is {_few(_members(file.root))}.")
    config = _config(file)
    kinds = _kinds(file, config) if config else {}
    # Keras 2 was the first to write its version with the weights, late Keras 1 wrote it with whole models.
    version = _attribute("keras_version", weights, file.root) or "1"
    backend = _attribute("backend", weights, file.root)
    stored, models = _stored(file, weights, kinds)
    own, twins = _of_the_model(file, weights, stored)
    stored |= own
    if not stored:
        raise BridgeError(f"{file.path} is a Keras file without any weights: its layers are {_few(names)}.")
    try:
        modern = old_arrays.modern(
            stored,
            version=version,
            backend=backend,
            kinds=kinds,
            dim_ordering=dim_ordering,
            kernels=kernels,
            architecture=config,
            flatten=flatten,
        )
    except BridgeError as error:
        raise BridgeError(f"{file.path}: {error}") from error
    return Source(
        modern.stored,
        format="keras-h5-model" if config else "keras-h5-weights",
        path=file.path,
        keras_version=version,
        backend=backend,
        architecture=config,
        kinds={**models, **modern.kinds},
        notes=modern.notes,
        undecided=modern.undecided,
        flattened=modern.flattened,
        cudnn=modern.cudnn,
        twins=twins,
    ).recognised()


def is_legacy(file: File) -> bool:
    """Whether the file lists layers by name, at its top or as a whole model does."""
    return any(name.startswith("layer_names") for name in file.root.attributes) or "model_weights" in file.root.groups


def _members(group: Group) -> list[str]:
    return [*group.groups, *group.datasets, *group.refused]


def _few(names: list[str]) -> list[str]:
    return [shown(name) for name in sorted(names)[:8]]


def _config(file: File) -> Mapping[str, Any] | None:
    text = file.root.attributes.get("model_config")
    if text is None:
        return None
    config = json_data.parsed(str(text).encode(), f"{file.path}: its model_config")
    return config if isinstance(config, dict) else None


def _kinds(file: File, config: Mapping[str, Any]) -> dict[str, str]:
    """The class of every layer by its path; a few long names inside one another can make endless ones."""
    kinds: dict[str, str] = {}
    length = 0
    try:
        for path, layer in architecture.walk(architecture.layers(config)):
            length += len(path)
            if length > LONGEST_NAMES:
                raise BridgeError(
                    f"{file.path}: its model_config has longer names than any model has. Get the file again."
                )
            kinds[path] = layer.kind
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BridgeError(f"{file.path}: its model_config describes no model. Get the file again.") from error
    return kinds


def _attribute(name: str, *groups: Group) -> str | None:
    return next((str(group.attributes[name]) for group in groups if group.attributes.get(name) is not None), None)


def _stored(file: File, weights: Group, kinds: Mapping[str, str]) -> tuple[dict[str, Stored], dict[str, str]]:
    """Every weight under "layer/role", and the class of each layer that is a model by them.

    Refused: two weights of one name.
    """
    stored: dict[str, Stored] = {}
    models: dict[str, str] = {}
    comparisons = 0
    for layer in listed(weights, "layer_names") or []:
        tensors = _tensors(file, weights, layer)
        within = f"{layer}/"
        children = [each.removeprefix(within) for each in kinds if each.startswith(within)] if layer in kinds else None
        if kinds.get(layer) == "TimeDistributed" and len(children or ()) == 1:  # of a layer, as it were, and no model
            children = []
        comparisons += len(kinds) + len(tensors) * len(children or ())
        if comparisons > MOST_COMPARISONS:
            raise BridgeError(f"{file.path} describes more layers and weights than any model has. Get the file again.")
        names, shapes = list(tensors), [tensor.shape for tensor in tensors.values()]
        spelled = spell(layer, names, shapes, children)
        outer = layer.rpartition("/")[0]  # of a layer that is listed by itself
        models |= dict.fromkeys([layer] if is_model(layer, names, spelled) else [outer] if outer else [], "Functional")
        spelled = with_sides(layer, names, spelled, shapes, {**kinds, **models})
        scales = any(each.role.endswith("_scale") for each in spelled)
        for each, tensor in zip(spelled, tensors.values(), strict=True):
            if scales and tensor.dtype in QUANTISED:
                raise BridgeError(quantised(f"{file.path}: layer {shown(layer)}", tensor.dtype))
            key = "/".join(part for part in (layer, each.inner, each.role) if part)
            if key in stored:
                raise BridgeError(f"{file.path}: two weights are both called {shown(key)}.")
            stored[key] = tensor
    return stored, models


def _of_the_model(
    file: File, weights: Group, others: Mapping[str, Stored]
) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """What a model that is a class has beside its layers, under the last part of each name, and twins of `others`.

    A weight of a layer that the model has as an attribute, too, is there a second time, under its whole name.
    """
    found: dict[str, Stored] = {}
    twins: dict[str, Stored] = {}
    for path, tensor in (_tensors(file, weights, TOP_LEVEL) if TOP_LEVEL in weights.groups else {}).items():
        whole = path.removesuffix(":0").partition("/")[2]
        name = whole.rpartition("/")[2] or path.removesuffix(":0")
        if whole in others and others[whole].shape == tensor.shape:
            twins[whole] = tensor
        elif name in found or name in others:
            raise BridgeError(f"{file.path}: two weights are both called {shown(name)}. Give each a name of its own.")
        else:
            found[name] = tensor
    return found, twins


def _tensors(file: File, weights: Group, layer: str) -> dict[str, Stored]:
    """The weights that a layer lists, under the names it gives them."""
    group = file.child(weights, layer)
    if not isinstance(group, Group):
        raise BridgeError(f"{file.path} lists the layer {shown(layer)!r} but does not hold it. Get the file again.")
    where = f"{file.path}: layer {shown(layer)}"
    tensors: dict[str, Stored] = {}
    for name in listed(group, "weight_names") or []:
        dataset = file.child(group, name)
        if not isinstance(dataset, Dataset):
            raise BridgeError(f"{where} lists the weight {shown(name)!r} but does not hold it. Get the file again.")
        if name in tensors:
            raise BridgeError(f"{where} lists the weight {shown(name)!r} twice. Get the file again.")
        tensors[name] = file.stored(dataset)
    return tensors
