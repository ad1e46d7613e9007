"""What a weight is called in Keras 1, 2 and 3, brought to Keras 3's role names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..source import Shape
from .elimination import eliminated

ROLES = frozenset(
    "kernel bias gamma beta moving_mean moving_variance depthwise_kernel pointwise_kernel "
    "recurrent_kernel embeddings alpha mean variance count".split()
)

# Keras 1 kept every gate's arrays apart: input, state and bias of each, in the order of its file.
GATED = {
    gates: tuple(f"{letter}_{gate}" for gate in gates for letter in "WUb")
    for gates in ("zrh", "icfo")  # of a GRU and of an LSTM
}

# Keras 1 wrote "<layer>_<role>", with its own words for some roles. Its running_std holds the
# variance from 1.0.6 on; earlier files do not say that it is a standard deviation.
KERAS_1_ROLES = {
    "W": "kernel",
    "U": "recurrent_kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "alphas": "alpha",
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
    **{role: role for role in ("W_carry", "b_carry")},
    **{role: role for roles in GATED.values() for role in roles},
}
_KERAS_1 = re.compile(rf"(?P<scope>.+)_(?P<role>{'|'.join(KERAS_1_ROLES)})(_\d+)?")
_WHOLE = ("kernel", "recurrent_kernel", "bias")
_NAMELESS = re.compile(r"param_\d+")
_NUMBER = re.compile(r"_\d+$")
_CELLS = frozenset({"lstm_cell", "gru_cell", "simple_rnn_cell"})
_STACKED = "stacked_rnn_cells"
_GATES = {1: "simple_rnn_cell", 3: "gru_cell", 4: "lstm_cell"}


@dataclass(frozen=True)
class Spelled:
    """A weight's name taken apart: the inner layer it belongs to ("" for none) and its role."""

    inner: str
    role: str


def spell(layer: str, names: Sequence[str], shapes: Sequence[Shape], children: Collection[str] | None) -> list[Spelled]:
    """The inner layer and role of every weight of one layer, in order.

    `children` are the paths of the layers inside it, where it is a model; None where the file does
    not say, and then several scopes mean that it is one. The scope of a plain layer is not trusted:
    Keras makes names unique within a session (`conv2d_1_2/kernel` in `conv2d_1`). What Keras 1 kept
    apart by gates keeps its role (`W_z`). Cells stacked in one layer are inner layers of it.
    """
    parts = [_scope_and_role(name) for name in names]
    if all(_NAMELESS.fullmatch(role) for _, role in parts):
        return _nameless(shapes)
    scopes = list(dict.fromkeys(scope for scope, _ in parts))
    if children:
        inner = _placed(layer, scopes, children)
    else:
        inner = {scope: _below(layer, scope, several=len(scopes) > 1) for scope in scopes}
    places = _without_cells(inner)
    return _stacked([Spelled(places[scope], role) for scope, role in parts], shapes)


def recurrent_roles(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """The roles of a recurrent layer's arrays as Keras 0 and 1 wrote them, whole or gate by gate; none for others."""
    triples = [tuple(shapes[start : start + 3]) for start in range(0, len(shapes), 3)]
    if len(set(triples)) != 1 or len(triples[0]) != 3:
        return ()
    given, state, bias = triples[0]
    recurrent = len(given) == len(state) == 2 and len(bias) == 1 and given[1] == state[1] == bias[0]
    if not recurrent or state[0] not in (state[1], *(() if len(triples) > 1 else (state[1] // 3, state[1] // 4))):
        return ()
    return {1: _WHOLE, 3: GATED["zrh"], 4: GATED["icfo"]}.get(len(triples), ())


def _nameless(shapes: Sequence[Shape]) -> list[Spelled]:
    """Weights that were saved without names, in the layer's own order; the second half of two runs backwards."""
    half = len(shapes) // 2
    one_way = recurrent_roles(shapes[:half])
    if one_way and list(shapes[:half]) == list(shapes[half:]):
        return [Spelled(f"{way}_layer", role) for way in ("forward", "backward") for role in one_way]
    return [Spelled("", role) for role in recurrent_roles(shapes) or roles_by_shape(shapes)]


def _scope_and_role(name: str) -> tuple[str, str]:
    name = re.sub(r":\d+$", "", name)
    scope, _, last = name.rpartition("/")
    known = _NUMBER.sub("", last)
    if last in ROLES or known in ROLES:
        return scope, last if last in ROLES else known
    old = _KERAS_1.fullmatch(name)
    if old and not scope:
        return old["scope"], KERAS_1_ROLES[old["role"]]
    return scope, last


def _below(layer: str, scope: str, several: bool) -> str:
    """What of a scope lies inside the layer, as far as names alone tell: "td/dense" in the layer "td" is "dense"."""
    own = re.search(rf"(^|/){re.escape(layer)}(_\d+)?/", scope)
    if own:
        return scope[own.end() :]
    return scope if several and scope != layer else ""


def _placed(layer: str, scopes: Sequence[str], children: Collection[str]) -> dict[str, str]:
    """The inner layer of each scope of a nested model: a name of its own, perhaps below the model's, perhaps numbered.

    One rule must do for all scopes: with inner layers `conv` and `conv_1` the scopes of a session's
    second model are `conv_1` and `conv_1_1`.
    """
    plain = {scope: scope for scope in scopes}
    below = {scope: _below(layer, scope, several=True) for scope in scopes}
    unnumbered = {scope: _NUMBER.sub("", inner) for scope, inner in _without_cells(below).items()}
    for rule in (plain, below, unnumbered):
        found = {scope: _child(inner, children) for scope, inner in rule.items()}
        if None not in found.values() and len(set(found.values())) == len(set(rule.values())):
            return {scope: inner or "" for scope, inner in found.items()}
        if rule is plain and (only := eliminated(layer, scopes, children)):
            return only
    return below


def _child(name: str, children: Collection[str]) -> str | None:
    """The path of the inner layer that a scope means: Keras leaves out the models in between."""
    for shorter in (name, "/".join(part for part in name.split("/") if not _is_cell(part))):
        ends = [child for child in children if child == shorter or child.endswith(f"/{shorter}")]
        if shorter in children or len(ends) == 1:
            return shorter if shorter in children else ends[0]
    return name if any(name.startswith(f"{child}/") for child in children) else None


def _without_cells(places: dict[str, str]) -> dict[str, str]:
    """The places without the cells of recurrent layers, which are one with their layer unless several are stacked."""
    bare = {
        scope: "/".join(part for part in place.split("/") if part and _NUMBER.sub("", part) != _STACKED)
        for scope, place in places.items()
    }
    short = {scope: "/".join(part for part in place.split("/") if not _is_cell(part)) for scope, place in bare.items()}
    often = Counter(short.values())
    return {scope: name if often[name] == 1 else bare[scope] for scope, name in short.items()}


def _is_cell(part: str) -> bool:
    return part in _CELLS or _NUMBER.sub("", part) in _CELLS


def _stacked(spelled: list[Spelled], shapes: Sequence[Shape]) -> list[Spelled]:
    """Cells apart that Keras 2 stacked without a name for each: kernel, recurrent_kernel, bias, kernel_1, ..."""
    states = [shape for each, shape in zip(spelled, shapes, strict=True) if each.role == "recurrent_kernel"]
    kernels = sum(each.role == "kernel" for each in spelled)
    if len(set(spelled)) == len(spelled) or not 1 < kernels == len(states) or any(each.inner for each in spelled):
        return spelled
    names: list[str] = []
    often: Counter[str] = Counter()
    for shape in states:
        name = _GATES.get(shape[1] // max(shape[0], 1), "cell") if len(shape) == 2 else "cell"
        names.append(f"{name}_{often[name]}" if often[name] else name)
        often[name] += 1
    cells = accumulate(int(each.role == "kernel") for each in spelled)
    return [Spelled(names[max(cell, 1) - 1], each.role) for each, cell in zip(spelled, cells, strict=True)]


def roles_by_shape(shapes: Sequence[Shape]) -> list[str]:
    """Roles of weights that were saved without names: they come in the layer's own order."""
    vectors = all(len(shape) == 1 for shape in shapes)
    if vectors and len(shapes) == 4:
        return ["gamma", "beta", "moving_mean", "moving_variance"]
    if not vectors and len(shapes) <= 2:
        return ["kernel", "bias"][: len(shapes)]
    return [f"param_{index}" for index in range(len(shapes))]
