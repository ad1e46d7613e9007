"""Carrying a plan out: all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .arguments import check_module
from .errors import BridgeError
from .formats import read
from .matching.match import planned, prepared
from .matching.slots import tensor_of
from .options import Choices, Options
from .plan import Copy, Plan
from .source import Array, Source, from_arrays
from .torch_files import from_state_dict

if TYPE_CHECKING:
    from typing_extensions import Unpack

Weights = Source | str | PathLike[str] | Mapping[str, Array] | Mapping[str, Tensor]


def load(module: nn.Module, source: Weights, **choices: Unpack[Choices]) -> Plan:
    """Copy the source's weights into the module, in place, and return the plan that was carried out.

    The source is a path, what `read` gave, a state dict, or arrays by "layer/role". The options are
    those of `match` (`bridge.Choices` explains each), and so are the refusals; whatever is refused, the
    module is as it was.
    """
    check_module(module)
    options = Options.of(choices)
    given = prepared(source_of(source, options), module, options)
    plan = planned(given, module, options)
    targets = {copy.target: tensor_of(module, copy.target) for copy in plan.copied.values()}
    for name, tensor in targets.items():
        if tensor.is_meta:
            raise BridgeError(
                f"{name} is on the meta device and has no memory. Call module.to_empty(device=...) first."
            )
    # Every array is at hand before the first is copied: one that cannot be read changes nothing.
    arrays = {copy.source: given[copy.source] for copy in plan.copied.values()}
    _refuse_contradictions(plan, targets, arrays)
    with torch.no_grad():
        last = {copy.source: copy for copy in plan.copied.values()}
        for copy in plan.copied.values():
            _write(copy, targets[copy.target], arrays[copy.source])
            if last[copy.source] is copy:
                del arrays[copy.source]  # so that one array's pages are in memory at a time
        for name, value in plan.filled.items():
            tensor_of(module, name).fill_(value)
    return plan


def _write(copy: Copy, target: Tensor, array: Array) -> None:
    if copy.rows is None:
        copy.transform.into(target, array)
    else:
        values = copy.transform.apply(array).to(target.device, target.dtype)
        target[torch.tensor(copy.rows, dtype=torch.long, device=target.device)] = values


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


def source_of(weights: Weights, options: Options | None = None) -> Source:
    """Whatever holds weights, as a source; a file of an old Keras may need the maps that the options say."""
    if isinstance(weights, Source):
        return weights
    if isinstance(weights, (str, PathLike)):
        return read(weights, flatten=options.flatten if options else None)
    if not isinstance(weights, Mapping):
        raise BridgeError(
            f"Weights are a path, a source, a state dict or arrays by name, not a {type(weights).__name__}."
        )
    if strange := [name for name in weights if not isinstance(name, str)]:
        raise BridgeError(f"Arrays are named by text, as layer/role, not by {strange[0]!r}.")
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if tensors:
        return from_state_dict(tensors)
    return from_arrays({name: value for name, value in weights.items() if not isinstance(value, Tensor)})
