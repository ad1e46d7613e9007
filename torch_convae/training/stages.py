"""A training phase as data, and what frozen means."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..errors import ConvaeError


@dataclass(frozen=True)
class Stage:
    """So many epochs at this learning rate for the parameters that match `train` (globs); all else is frozen."""

    name: str
    epochs: int
    lr: float
    train: tuple[str, ...] = ("*",)


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


def train_mode(module: nn.Module, inherited: bool = True) -> None:
    """Training mode for what trains. What is frozen stays in evaluation mode, its BatchNorm and Dropout included.

    A part without parameters, such as Dropout, goes with the part it stands in.
    """
    own = list(module.parameters(recurse=False))
    everything = list(module.parameters())
    training = any(parameter.requires_grad for parameter in everything) if everything else inherited
    # A normalisation without weights of its own but with statistics follows its surroundings, too.
    module.training = any(parameter.requires_grad for parameter in own) if own else training
    for child in module.children():
        train_mode(child, training)


def frozen_hash(model: nn.Module) -> str:
    """SHA-256 over every tensor that is not to move: frozen parameters, and the buffers that stand beside them."""
    digest = hashlib.sha256()
    for path, layer in model.named_modules():
        parameters = dict(layer.named_parameters(recurse=False))
        if layer.training and any(parameter.requires_grad for parameter in parameters.values()):
            continue
        tensors = {name: tensor for name, tensor in parameters.items() if not tensor.requires_grad}
        if not layer.training:
            tensors |= dict(layer.named_buffers(recurse=False))
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{path}.{name}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def parameter_count(parameters: list[nn.Parameter]) -> int:
    """How many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters)
