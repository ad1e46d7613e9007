"""Keras 0's HDF5: layers that have numbers for names, and arrays that have; or one group for a whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from ..errors import BridgeError
from ..hdf5 import Dataset, File, Group
from ..layers.beside import Said
from ..naming import vgg_names
from ..source import Shape, Source, Stored
from . import old_arrays
from .spelling import recurrent_roles

VERSION = "0"
LAYERS, PARAMS, GRAPH = "nb_layers", "nb_params", "graph"
NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")

# The VGG16 and VGG19 that were published for Keras 0, with a ZeroPadding2D before every convolution, a
# pooling behind every block, and Flatten, fc1, Dropout, fc2, Dropout, predictions.
PUBLISHED = tuple(
    names for names in vgg_names.NETWORKS if len(names) in (13, 16) and not any(name.endswith("_bn") for name in names)
)
TOP = ("fc1", "fc2", "predictions")
VGG = "Its layers are those of the VGG that was published for Keras 0, and have its names."
VGG_THEANO = f"{VGG} Theano wrote that: pass kernels='tf' if another wrote this."


def is_keras_0(file: File) -> bool:
    """Whether Keras 0 wrote the file: a Sequential's layers, or a Graph."""
    graph = file.root.groups.get(GRAPH)
    return LAYERS in file.root.attributes or (graph is not None and PARAMS in graph.attributes)


def read(
    file: File,
    dim_ordering: str | None = None,
    kernels: str | None = None,
    flatten: Mapping[str, Said | None] | None = None,
) -> Source:
    """The weights of a file of Keras 0.1 to 0.3, in the model's order and under Keras 3's conventions.

    A layer is called as its group, "layer_1". Where one group holds several, as that of a Graph does, each
    is called by its number below it, "graph/0". A VGG as it was published has its Keras names. Roles are
    told by shapes, and are param_0, param_1, ... where these do not tell. `dim_ordering`, `kernels` and
    `flatten` say what the file does not, as in `old_arrays.modern`. Refused: a file that is not whole,
    and options that contradict it.
    """
    layers = dict(_layers(file))
    names = _published({layer: [tensor.shape for tensor in tensors] for layer, tensors in layers.items()})
    stored = {
        f"{names.get(layer, layer)}/{key}": tensor
        for layer, tensors in layers.items()
        for key, tensor in zip(keys([tensor.shape for tensor in tensors]), tensors, strict=True)
    }
    if not stored:
        raise BridgeError(f"{file.path} is a Keras file without any weights. Give the file of a model that has some.")
    try:
        modern = _modern(stored, bool(names), dim_ordering, kernels, flatten)
    except BridgeError as error:
        raise BridgeError(f"{file.path}: {error}") from error
    source = Source(
        modern.stored,
        format="keras-0-weights",
        path=file.path,
        keras_version="0",
        kinds=modern.kinds,
        notes=modern.notes,
        undecided=modern.undecided,
        flattened=modern.flattened,
    )
    return source.recognised()


def keys(shapes: Sequence[Shape]) -> list[str]:
    """The role of every array of a group, with the layer's number before it where these are several layers."""
    pieces = list(_pieces(shapes))
    if sum(map(len, pieces)) < len(shapes):
        return [f"param_{index}" for index in range(len(shapes))]
    if len(pieces) == 1:
        return list(pieces[0])
    return [f"{number}/{role}" for number, roles in enumerate(pieces) for role in roles]


def _pieces(shapes: Sequence[Shape]) -> Iterator[tuple[str, ...]]:
    """The roles of one layer after another, up to the first whose shapes do not tell them."""
    start = 0
    while start < len(shapes):
        gated = shapes[start : start + _alike(shapes, start)]
        roles = recurrent_roles(gated) if gated else _roles(*shapes[start : start + 4])
        if not roles:
            return
        yield roles
        start += len(roles)


def _alike(shapes: Sequence[Shape], start: int) -> int:
    """How many arrays are those of gates, three for each, all alike: of one layer, or of several that none can tell."""
    one = shapes[start : start + 3]
    if len(one) < 3 or not recurrent_roles(one):
        return 0
    return 3 * sum(1 for _ in takewhile(lambda at: shapes[at : at + 3] == one, range(start, len(shapes), 3)))


def _roles(first: Shape, second: Shape = (), *more: Shape) -> tuple[str, ...]:
    """The roles of any other layer that comes first; none where its shapes do not tell."""
    if len(first) == 1 and len(more) == 2 and {first} == {second, *more}:
        return NORMALISATION
    if len(first) > 1 and len(second) == 1 and second[0] in (first[-1], first[0] if len(first) > 3 else None):
        return ("kernel", "bias")
    if len(first) == 3 and second == (first[0], first[2]):  # a MaxoutDense
        return ("kernel", "bias")
    return {1: ("alpha",), 2: ("embeddings",), 3: ("alpha",)}.get(len(first), ())


def _layers(file: File) -> Iterator[tuple[str, list[Stored]]]:
    """Each group that holds arrays, in the model's order."""
    root = file.root
    whole = LAYERS in root.attributes
    for name in (f"layer_{index}" for index in _indices(file, root, LAYERS)) if whole else [GRAPH]:
        group = file.child(root, name)
        if not isinstance(group, Group):
            raise BridgeError(f"{file.path} lists {name} but does not hold it. Get the file again.")
        tensors = []
        for index in _indices(file, group, PARAMS):
            dataset = file.child(group, f"param_{index}")
            if not isinstance(dataset, Dataset):
                raise BridgeError(f"{file.path}: {name} lists param_{index} but does not hold it. Get the file again.")
            tensors.append(file.stored(dataset))
        if tensors:
            yield name, tensors


def _indices(file: File, group: Group, attribute: str) -> range:
    """The numbers of what a group counts; those past the first that is missing are not asked for."""
    count = group.attributes.get(attribute)
    if not isinstance(count, int):
        raise BridgeError(f"{file.path} says {attribute}={count!r}, which is no number. Get the file again.")
    return range(count)


def _published(layers: Mapping[str, Sequence[Shape]]) -> dict[str, str]:
    """The Keras names of a published VGG's layers, whole or without the last ones of its top; none for another."""
    for convolutions in PUBLISHED:
        numbers = vgg_names.to_torchvision(dict.fromkeys(convolutions, "Conv2D"))
        places = {int(path.rpartition("/")[2]) + 1: name for name, path in numbers.items()}  # behind a ZeroPadding2D
        places |= {max(places) + 3 + 2 * index: name for index, name in enumerate(TOP)}
        names = {f"layer_{place}": name for place, name in places.items()}
        count = len(layers)
        if count >= len(convolutions) and list(layers) == list(names)[:count]:
            ranks = [len(shapes[0]) for shapes in layers.values()]
            tops = count - len(convolutions)
            if ranks == [4] * len(convolutions) + [2] * tops:
                return names
    return {}


def _modern(
    stored: Mapping[str, Stored],
    published: bool,
    dim_ordering: str | None,
    kernels: str | None,
    flatten: Mapping[str, Said | None] | None,
) -> old_arrays.Modern:
    """The weights under Keras 3's conventions. A published VGG is Theano's, unless something else is said."""

    def given(whose: str | None) -> old_arrays.Modern:
        return old_arrays.modern(
            stored,
            version=VERSION,
            backend=None,
            kinds={},
            dim_ordering=dim_ordering,
            kernels=whose,
            flatten=flatten,
        )

    modern = given(kernels)
    if not published:
        return modern
    if modern.undecided and not kernels:
        modern, note = given("th"), VGG_THEANO
    else:
        note = VGG
    return replace(modern, notes=(note, *modern.notes))
