"""A network in shards (FSDP2): each process keeps a part of every layer, and has it whole only to compute."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .phase import Phase

M = TypeVar("M", bound=nn.Module)


def refuse_recurrent(model: nn.Module) -> None:
    """A recurrent layer of PyTorch holds its weights in a list beside its parameters, which sharding does not know."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.RNNBase):
            raise ConvaeError(f"--parallel shard cannot cut the {type(layer).__name__} {name!r}. Leave shard out.")


def shard(model: nn.Module, device: torch.device, count: int) -> None:
    """Cut every layer of a model, in place, among so many processes; a layer that is cut already stays so.

    Each layer is a unit of its own: parts of a network may then stand in several networks, be frozen, released and
    used alone, as any network's may.
    """
    from torch.distributed.device_mesh import init_device_mesh  # here, since importing FSDP takes half a second
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (count,))
    for layer in list(model.modules()):
        if not isinstance(layer, FSDPModule) and next(layer.parameters(recurse=False), None) is not None:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    for layer in model.modules():
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(layer, name, buffer.to(device))


def twins(models: M, phases: Sequence[Phase]) -> tuple[M, tuple[Phase, ...]]:
    """Copies that may be cut, of networks and of phases on them, which share what those share."""
    copied, each = copy.deepcopy((models, [phase.model for phase in phases]))
    return copied, tuple(replace(phase, model=model) for phase, model in zip(phases, each, strict=True))


def is_cut(value: Any) -> bool:
    """Whether a value is a tensor in shards."""
    return hasattr(value, "full_tensor")


def whole(tensor: Any) -> Any:
    """All of what is in shards, in the host's memory: every process has to ask for it. Anything else as it is."""
    return tensor.full_tensor().cpu() if is_cut(tensor) else tensor


def cut_as(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's shards of a tensor that all have whole, where `like` is in shards; else the tensor."""
    if not is_cut(like):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    with torch.no_grad():
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
