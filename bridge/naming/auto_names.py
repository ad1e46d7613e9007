"""The names that Keras gives by itself ("conv2d_16"), as any version writes them, made canonical."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .densenet_names import today

# The classes with weights, as Keras 3 spells them. Without weights a layer's name plays no part.
CURRENT = frozenset(
    "dense einsum_dense embedding reversible_embedding conv1d conv2d conv3d conv1d_transpose conv2d_transpose "
    "conv3d_transpose depthwise_conv1d depthwise_conv2d separable_conv1d separable_conv2d locally_connected1d "
    "locally_connected2d batch_normalization layer_normalization group_normalization rms_normalization "
    "spectral_normalization normalization p_re_lu s_re_lu parametric_softplus simple_rnn lstm gru rnn "
    "simple_rnn_cell lstm_cell gru_cell stacked_rnn_cells conv_lstm1d conv_lstm2d conv_lstm3d conv_lstm_cell "
    "bidirectional time_distributed time_distributed_dense attention additive_attention multi_head_attention "
    "grouped_query_attention highway maxout_dense functional sequential".split()
)
# Keras 1 wrote class names in lower case without underscores; and some classes had other names.
OLDER = {name.replace("_", ""): name for name in sorted(CURRENT) if "_" in name} | {
    "convolution1d": "conv1d",
    "convolution2d": "conv2d",
    "convolution3d": "conv3d",
    "atrousconvolution1d": "conv1d",
    "atrousconvolution2d": "conv2d",
    "deconvolution2d": "conv2d_transpose",
    "deconvolution3d": "conv3d_transpose",
    "separableconvolution2d": "separable_conv2d",
    "conv_lst_m1d": "conv_lstm1d",
    "conv_lst_m2d": "conv_lstm2d",
    "conv_lst_m3d": "conv_lstm3d",
    "cu_dnngru": "gru",
    "cu_dnnlstm": "lstm",
    "unified_gru": "gru",
    "unified_lstm": "lstm",
    "batch_normalization_v1": "batch_normalization",
    "batch_normalization_v2": "batch_normalization",
    "model": "functional",
}
_CLASS = "|".join(sorted(CURRENT | OLDER.keys(), key=len, reverse=True))
_AUTO = re.compile(rf"((?:forward_|backward_)?)({_CLASS})(?:_[0-9]+)?")  # Bidirectional names its two layers so

DEEPEST = 30  # models in models; what is below keeps its name
Ranks = Mapping[str, str]  # a path -> the same path with every automatic name counted anew


def auto_prefix(name: str) -> str | None:
    """The class part of a name that Keras gave by itself ("conv2d_16" -> "conv2d"); None for a user's name.

    It is spelled as Keras 3 spells it, whichever version wrote the name.
    """
    found = _AUTO.fullmatch(name)
    return found[1] + OLDER.get(found[2], found[2]) if found else None


def canonical(layers: Iterable[str]) -> dict[str, str]:
    """Each layer's name with auto-numbers counted from zero, as a fresh Keras 3 session names them.

    Keras numbers on through a session, so that one architecture is conv2d_1 ... in one file and
    conv2d_16 ... in the next. The rank within a class, in the model's order, is what they share.
    """
    current = today(layers)
    ranks = _ranked(current.values())
    return {layer: ranks[name] for layer, name in current.items()}


def in_order(layers: Iterable[str]) -> list[str]:
    """The layers with those that Keras numbered by itself in the order of their numbers, each class in its places."""
    given = list(layers)
    classes: dict[tuple[str, str], list[str]] = {}
    for layer in given:
        outer, _, name = layer.rpartition("/")
        if prefix := auto_prefix(name):
            classes.setdefault((outer, prefix), []).append(layer)
    placed = {at: layer for own in classes.values() for at, layer in zip(own, sorted(own, key=_number), strict=True)}
    return [placed.get(layer, layer) for layer in given]


def _number(layer: str) -> int:
    end = layer.rpartition("_")[2]
    return int(end) if end.isdecimal() else 0


def aligned(layers: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Each source layer's name as a module counts it whose layers are called `own`.

    A name is a name. Only where both sides have as many auto-numbered layers of a class at one
    place, under other numbers, they are paired by rank: the sessions differed, not the models.
    """
    current, own = today(layers), list(own)
    theirs, ours = _ranked(current.values()), _ranked(own)
    there, here = _numbered(theirs), _numbered(ours)
    differ = {
        place
        for place, names in there.items()
        if place in here and len(here[place]) == len(names) and here[place] != names
    }
    by_key = {_key(name, ours[name], differ): name for name in own}
    return {layer: by_key.get(_key(name, theirs[name], differ), layer) for layer, name in current.items()}


def _ranked(layers: Iterable[str]) -> Ranks:
    ranks: dict[str, str] = {"": ""}
    counts: dict[tuple[str, str], int] = {}
    for layer in layers:
        parts = layer.split("/", DEEPEST)
        for depth in range(1, len(parts) + 1):
            path, parent = "/".join(parts[:depth]), ranks["/".join(parts[: depth - 1])]
            if path not in ranks:
                rank = _rank(parent, parts[depth - 1], counts)
                ranks[path] = f"{parent}/{rank}" if depth > 1 else rank
    return ranks


def _rank(parent: str, name: str, counts: dict[tuple[str, str], int]) -> str:
    prefix = auto_prefix(name)
    if prefix is None:
        return name
    rank = counts.get((parent, prefix), 0)
    counts[parent, prefix] = rank + 1
    return f"{prefix}_{rank}" if rank else prefix


Place = tuple[str, str | None]  # the path above, ranked, and the class part of the names there


def _numbered(ranks: Ranks) -> dict[Place, set[str]]:
    """The auto-numbered names of each class at each place."""
    found: dict[Place, set[str]] = {}
    for path, ranked in ranks.items():
        name = path.rpartition("/")[2]
        if prefix := auto_prefix(name):
            found.setdefault((ranked.rpartition("/")[0], prefix), set()).add(name)
    return found


def _key(path: str, ranked: str, differ: set[Place]) -> tuple[str, ...]:
    """A path, each part by its rank where the two sides number it differently, else by its name."""
    names, ranks = path.split("/", DEEPEST), ranked.split("/", DEEPEST)
    places = (("/".join(ranks[:depth]), auto_prefix(name)) for depth, name in enumerate(names))
    return tuple(rank if place in differ else name for name, rank, place in zip(names, ranks, places, strict=True))
