"""What frozen means: no gradients, no batch statistics, no Dropout, and a hash that proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConvaeError
from .shards import whole

TORCH_MOMENTUM = 0.1  # the share of a new batch in the running statistics, by default; Keras's is 0.01


def matching(model: nn.Module, patterns: Iterable[str]) -> dict[str, nn.Parameter]:
    """The parameters whose whole names match one of the globs; a glob that matches none is refused with near names."""
    parameters = dict(model.named_parameters())
    found: set[str] = set()
    for pattern in patterns:
        names = [name for name in parameters if fnmatchcase(name, pattern)]
        if not names:
            near = get_close_matches(pattern, parameters, n=3) or list(parameters)[:3]
            raise ConvaeError(f"The pattern {pattern!r} matches no parameter; there are {', '.join(near)}.")
        found.update(names)
    return {name: parameter for name, parameter in parameters.items() if name in found}


def freeze_all_but(model: nn.Module, train: Iterable[str]) -> list[nn.Parameter]:
    """Release what matches and freeze the rest; the released parameters, for the optimizer.

    A frozen parameter loses its gradient too: an optimizer would still move it by one that is left over.
    A pattern that matches nothing is refused with the nearest names.
    """
    released = matching(model, train)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in released)
        if name not in released:
            parameter.grad = None
    return list(released.values())


def train_mode(model: nn.Module, batch_statistics: bool | Collection[str] = True) -> None:
    """Training mode for what trains. What is frozen stays in evaluation mode, its BatchNorm and Dropout included.

    A part without parameters, such as Dropout, goes with the part it stands in. `batch_statistics` says which of
    the released BatchNorm layers normalise by their batches: all, none, or those of these names.
    """
    modes: dict[str, bool] = {}
    for path, module in model.named_modules():  # a part comes before what stands in it
        parameters = list(module.parameters())
        training = any(parameter.requires_grad for parameter in parameters)
        modes[path] = training if parameters else modes.get(path.rpartition(".")[0], True)
        by_batches = batch_statistics if isinstance(batch_statistics, bool) else path in batch_statistics
        module.training = modes[path] and (by_batches or not isinstance(module, _BatchNorm))


def batch_norms(model: nn.Module) -> dict[str, frozenset[str]]:
    """The names of the parameters of each BatchNorm layer, by its name."""
    return {
        path: frozenset(f"{path}.{name}" for name, _ in layer.named_parameters())
        for path, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
    }


@contextmanager
def keeping_up(model: nn.Module, steps: int) -> Iterator[None]:
    """Let running statistics follow the weights within a tenth of so many steps, and at the end as they did before.

    Keras averages them over 100 steps. In a stage of a few hundred they would lag behind the weights to
    its end, and the network would be measured, and frozen, with statistics of other weights. A layer that
    follows faster by itself, as PyTorch's do, goes on as it does.
    """
    norms = (layer for layer in model.modules() if isinstance(layer, _BatchNorm))
    own = [(layer, layer.momentum) for layer in norms if layer.momentum is not None]
    for layer, momentum in own:
        layer.momentum = max(momentum, min(10 / max(steps, 1), TORCH_MOMENTUM))
    try:
        yield
    finally:
        for layer, momentum in own:
            layer.momentum = momentum


def frozen_hash(model: nn.Module) -> str:
    """SHA-256 over every tensor that is not to move: frozen parameters, and buffers of parts in evaluation mode.

    "nothing" where everything trains.
    """
    digest, empty = hashlib.sha256(), hashlib.sha256().hexdigest()
    for path, layer in model.named_modules():
        tensors = {name: value for name, value in layer.named_parameters(recurse=False) if not value.requires_grad}
        if not layer.training:
            tensors |= dict(layer.named_buffers(recurse=False))
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{path}.{name}".encode())
            digest.update(whole(tensor.detach()).cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if digest.hexdigest() != empty else "nothing"


def parameter_count(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters)
