"""What moves while a run trains, by name: weights, and what the optimizer knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .shards import cut_as, whole

Moments = Mapping[str, Mapping[str, Any]]  # what an optimizer knows of each parameter, by the parameter's name


def weights_of(models: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of a state dict once, under its first name: networks may share parts."""
    seen: set[int] = set()
    found = {}
    for name, tensor in models.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def whole_weights_of(models: nn.Module) -> dict[str, Tensor]:
    """The same, and all of those that are in shards."""
    return {name: whole(tensor) for name, tensor in weights_of(models).items()}


def set_weights(models: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Back to what they were, where they lie; other names or shapes are refused before anything is changed."""
    here = weights_of(models)
    if {name: each.shape for name, each in here.items()} != {name: each.shape for name, each in saved.items()}:
        raise ConvaeError("The checkpoint is that of another network. Start over with --fresh.")
    with torch.no_grad():
        for name, tensor in here.items():
            tensor.copy_(cut_as(saved[name], tensor))


def moments_of(optimizer: torch.optim.Optimizer, models: nn.Module) -> dict[str, dict[str, Any]]:
    """What the optimizer knows, by name, so that it does not depend on the order or number of its groups."""
    names = {id(parameter): name for name, parameter in models.named_parameters()}
    return {
        names[id(parameter)]: {key: whole(value) for key, value in state.items()}
        for parameter, state in optimizer.state.items()
        if state
    }


def set_moments(optimizer: torch.optim.Optimizer, models: nn.Module, moments: Moments) -> None:
    """Let the optimizer go on with what is known of its parameters; of the others it knows nothing yet."""
    names = {id(parameter): name for name, parameter in models.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: dict(moments[names[id(parameter)]])
        for index, parameter in enumerate(parameters)
        if names[id(parameter)] in moments
    }
    # PyTorch's own way: it knows on which device each kind of number belongs.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter in parameters:
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused optimizers walk through memory, so a moment has to lie as its parameter does.
                moment = torch.empty_like(parameter, dtype=value.dtype)
                optimizer.state[parameter][key] = moment.copy_(cut_as(value, parameter))
