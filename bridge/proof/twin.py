"""A layer's twin: the same computation with the same numbers, in float64 on the CPU, apart from the module."""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
_LEVEL = re.compile(r"(.*_l)(\d+)(_reverse)?")


def twin(layer: nn.Module) -> nn.Module:
    """A copy that predicts, with its own numbers in float64 and without hooks; the layer is not touched."""
    made: nn.Module = object.__new__(type(layer))  # copy.copy asks the module, and one with parametrizations refuses
    state = made.__dict__ = {**layer.__dict__}
    state["_parameters"] = {name: _parameter(each) for name, each in layer._parameters.items()}
    state["_buffers"] = {name: each if each is None else _wide(each) for name, each in layer._buffers.items()}
    state["_modules"] = {name: child and twin(child) for name, child in layer._modules.items()}
    state["training"] = False
    state |= {name: OrderedDict() for name in _HOOKS}
    return made


def one_level(layer: nn.Module, level: int) -> nn.Module:
    """One level of a stacked nn.LSTM, nn.GRU or nn.RNN (all of its directions) as a layer that takes (N, T, C)."""
    if not isinstance(layer, nn.RNNBase):
        return twin(layer)
    state = {
        f"{name[1]}0{name[3] or ''}": _wide(tensor)
        for key, tensor in layer.named_parameters()
        if (name := _LEVEL.fullmatch(key)) and int(name[2]) == level
    }
    inputs = state["weight_ih_l0"]
    options = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    options |= {"bias": layer.bias, "bidirectional": layer.bidirectional, "batch_first": True}
    made: nn.Module = type(layer)(inputs.shape[1], layer.hidden_size, dtype=torch.float64, **options)  # type: ignore[arg-type]
    made.load_state_dict(state)
    return made.eval()


def _parameter(parameter: Tensor | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(_wide(parameter), requires_grad=False)


def _wide(tensor: Tensor) -> Tensor:
    own = tensor.detach().cpu()
    return own.double() if own.is_floating_point() else own.clone()
