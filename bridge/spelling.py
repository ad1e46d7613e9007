"""What a weight is called in Keras 1, 2 and 3, brought to Keras 3's role names."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def spell(layer: str, names: Sequence[str], shapes: Sequence[Shape], container: bool | None) -> list[Spelled]:
    """The inner layer and role of every weight of one layer, in order.

    `container` says whether the layer is a model of its own; None where the file does not say, and
    then several scopes that do not name the layer mean that it is one. The scope of a plain layer
    is not trusted: Keras makes names unique within a session (`conv2d_1_2/kernel` in `conv2d_1`).
    """
    parts = [_scope_and_role(name) for name in names]
    if all(_NAMELESS.fullmatch(role) for _, role in parts):
        return [Spelled("", role) for role in _roles_by_shape(shapes)]
    scopes = {scope for scope, _ in parts}
    trusted = len(scopes) > 1 if container is None else container
    return [Spelled(_inner(scope, layer, container, trusted), role) for scope, role in parts]


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


def _inner(scope: str, layer: str, container: bool | None, trusted: bool) -> str:
    """What of a scope lies inside the layer: "td/dense" in the layer "td" is "dense"."""
    if container is False or not scope:
        return ""
    own = re.search(rf"(^|/){re.escape(layer)}(_\d+)?(/|$)", scope)
    if own:
        inner = scope[own.end() :]
    else:
        inner = scope if trusted else ""
    return "/".join(part for part in inner.split("/") if part and not _CELL.fullmatch(part))


def _roles_by_shape(shapes: Sequence[Shape]) -> list[str]:
    """Roles of weights that were saved without names: they come in the layer's own order."""
    vectors = all(len(shape) == 1 for shape in shapes)
    if vectors and len(shapes) == 4:
        return ["gamma", "beta", "moving_mean", "moving_variance"]
    if not vectors and len(shapes) <= 2:
        return ["kernel", "bias"][: len(shapes)]
    return [f"param_{index}" for index in range(len(shapes))]
