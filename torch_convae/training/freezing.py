"""What frozen means: no gradients, no batch statistics, no Dropout, and a hash that proves it."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConvaeError

# The share of a new batch in the running statistics, by default.
KERAS_MOMENTUM, TORCH_MOMENTUM = 0.01, 0.1


def freeze_all_but(model: nn.Module, train: tuple[str, ...]) -> list[nn.Parameter]:
    """Release what matches and freeze the rest; the released parameters, for the optimizer.

    A frozen parameter loses its gradient too: an optimizer would still move it by one that is left over.
    A pattern that matches nothing is refused with the nearest names.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in train:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=3) or names[:3]
            raise ConvaeError(f"The pattern {pattern!r} matches no parameter; there are {', '.join(near)}.")
    released = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in train))
        if parameter.requires_grad:
            released.append(parameter)
        else:
            parameter.grad = None
    return released


def train_mode(module: nn.Module, batch_statistics: bool = True, inherited: bool = True) -> None:
    """Training mode for what trains. What is frozen stays in evaluation mode, its BatchNorm and Dropout included.

    A part without parameters, such as Dropout, goes with the part it stands in.
    """
    parameters = list(module.parameters())
    training = any(parameter.requires_grad for parameter in parameters) if parameters else inherited
    module.training = training and (batch_statistics or not isinstance(module, _BatchNorm))
    for child in module.children():
        train_mode(child, batch_statistics, training)


def keep_up(model: nn.Module, steps: int) -> None:
    """Let running statistics follow the weights within a tenth of so many steps.

    Keras averages them over 100 steps. In a stage of a few hundred they would lag behind the weights to
    its end, and the network would be measured, and frozen, with statistics of other weights.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = min(max(KERAS_MOMENTUM, 10 / max(steps, 1)), TORCH_MOMENTUM)


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
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if digest.hexdigest() != empty else "nothing"


def parameter_count(parameters: list[nn.Parameter]) -> int:
    """How many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters)
