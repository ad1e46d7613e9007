"""Carrying a plan out: all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from .errors import BridgeError
from .formats import read
from .match import match
from .options import Flattened, Rename
from .plan import Copy, Plan
from .slots import tensor_of
from .source import Array, Source, from_arrays
from .torch_files import from_state_dict

Weights = Source | str | PathLike[str] | Mapping[str, Array] | Mapping[str, Tensor]


def load(
    module: nn.Module,
    source: Weights,
    *,
    prefix: str = "",
    rename: Rename | None = None,
    skip: str | Sequence[str] = (),
    strict: bool = False,
    names: str | None = None,
    flatten: Flattened | None = None,
) -> Plan:
    """Copy the source's weights into the module, in place, and return the plan that was carried out.

    The source is a path, what `read` gave, a state dict, or arrays by "layer/role". The options are
    those of `match`, and so are the refusals; whatever is refused, the module is as it was.
    """
    given = source_of(source)
    plan = match(given, module, prefix=prefix, rename=rename, skip=skip, strict=strict, names=names, flatten=flatten)
    targets = {copy.target: tensor_of(module, copy.target) for copy in plan.copied.values()}
    for name, tensor in targets.items():
        if tensor.is_meta:
            raise BridgeError(
                f"{name} is on the meta device and has no memory. Call module.to_empty(device=...) first."
            )
    # Every array is at hand before the first is copied: one that cannot be read changes nothing.
    arrays = {key: given[key] for key in plan.copied}
    _refuse_contradictions(plan, targets, arrays)
    with torch.no_grad():
        for key, copy in plan.copied.items():
            copy.transform.into(targets[copy.target], arrays.pop(key))
        for name, value in plan.filled.items():
            tensor_of(module, name).fill_(value)
    return plan


def _refuse_contradictions(plan: Plan, targets: Mapping[str, Tensor], arrays: Mapping[str, Array]) -> None:
    """Tied parameters are one tensor: their sources must be equal."""
    first: dict[int, Copy] = {}
    for copy in plan.copied.values():
        other = first.setdefault(id(targets[copy.target]), copy)
        if other is copy:
            continue
        one, two = (each.transform.apply(arrays[each.source]) for each in (other, copy))
        if not torch.equal(one, two):
            raise BridgeError(
                f"{other.source} and {copy.source} differ, but {other.target} and {copy.target} are one tensor. "
                f"Skip one of them."
            )


def source_of(weights: Weights) -> Source:
    """Whatever holds weights, as a source."""
    if isinstance(weights, Source):
        return weights
    if isinstance(weights, (str, PathLike)):
        return read(weights)
    if not isinstance(weights, Mapping):
        raise BridgeError(
            f"Weights are a path, a source, a state dict or arrays by name, not a {type(weights).__name__}."
        )
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if tensors:
        return from_state_dict(tensors)
    return from_arrays({name: value for name, value in weights.items() if not isinstance(value, Tensor)})
