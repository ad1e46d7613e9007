"""What a weight is called in Keras 1, 2 and 3, brought to Keras 3's role names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .source import Shape

ROLES = frozenset(
    "kernel bias gamma beta moving_mean moving_variance depthwise_kernel pointwise_kernel "
    "recurrent_kernel embeddings alpha mean variance count".split()
)

# Keras 1 wrote "<layer>_<role>", with its own words for some roles. Its running_std holds the
# variance from 1.0.6 on; earlier files do not say that it is a standard deviation.
KERAS_1_ROLES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "alphas": "alpha",
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
}
_KERAS_1 = re.compile(rf"(?P<scope>.+)_(?P<role>{'|'.join(KERAS_1_ROLES)})(_\d+)?")
_NAMELESS = re.compile(r"param_\d+")
_CELL = re.compile(r"(lstm|gru|simple_rnn)_cell(_\d+)?")


@dataclass(frozen=True)
class Spelled:
    """A weight's name taken apart: the inner layer it belongs to ("" for none) and its role."""

    inner: str
    role: str


def spell(layer: str, names: Sequence[str], shapes: Sequence[Shape], children: Collection[str] | None) -> list[Spelled]:
    """The inner layer and role of every weight of one layer, in order.

    `children` are the paths of the layers inside it, where it is a model; None where the file does
    not say, and then several scopes mean that it is one. The scope of a plain layer is not trusted:
    Keras makes names unique within a session (`conv2d_1_2/kernel` in `conv2d_1`).
    """
    parts = [_scope_and_role(name) for name in names]
    if all(_NAMELESS.fullmatch(role) for _, role in parts):
        return [Spelled("", role) for role in _roles_by_shape(shapes)]
    scopes = list(dict.fromkeys(scope for scope, _ in parts))
    if children:
        inner = _placed(layer, scopes, children)
    elif children is not None and len(scopes) == 1:
        inner = {scopes[0]: ""}
    else:
        inner = {scope: _below(layer, scope, several=len(scopes) > 1) for scope in scopes}
    return [Spelled(inner[scope], role) for scope, role in parts]


def _scope_and_role(name: str) -> tuple[str, str]:
    name = re.sub(r":\d+$", "", name)
    scope, _, last = name.rpartition("/")
    known = re.sub(r"_\d+$", "", last)
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
        return _without_cells(scope[own.end() :])
    return _without_cells(scope) if several and scope != layer else ""


def _placed(layer: str, scopes: Sequence[str], children: Collection[str]) -> dict[str, str]:
    """The inner layer of each scope of a nested model: a name of its own, perhaps below the model's, perhaps numbered.

    One rule must do for all scopes: with inner layers `conv` and `conv_1` the scopes of a session's
    second model are `conv_1` and `conv_1_1`.
    """
    plain = {scope: _without_cells(scope) for scope in scopes}
    below = {scope: _below(layer, scope, several=True) for scope in scopes}
    unnumbered = {scope: re.sub(r"_\d+$", "", inner) for scope, inner in below.items()}
    for rule in (plain, below, unnumbered):
        found = {scope: _child(inner, children) for scope, inner in rule.items()}
        if None not in found.values() and len(set(found.values())) == len(set(rule.values())):
            return {scope: inner or "" for scope, inner in found.items()}
    return below


def _child(name: str, children: Collection[str]) -> str | None:
    """The path of the inner layer that a scope means: Keras leaves out the models in between."""
    ends = [child for child in children if child == name or child.endswith(f"/{name}")]
    if name in children or len(ends) == 1:
        return name if name in children else ends[0]
    return name if any(name.startswith(f"{child}/") for child in children) else None


def _without_cells(scope: str) -> str:
    return "/".join(part for part in scope.split("/") if part and not _CELL.fullmatch(part))


def _roles_by_shape(shapes: Sequence[Shape]) -> list[str]:
    """Roles of weights that were saved without names: they come in the layer's own order."""
    vectors = all(len(shape) == 1 for shape in shapes)
    if vectors and len(shapes) == 4:
        return ["gamma", "beta", "moving_mean", "moving_variance"]
    if not vectors and len(shapes) <= 2:
        return ["kernel", "bias"][: len(shapes)]
    return [f"param_{index}" for index in range(len(shapes))]
