"""A network's forward, step by step: each layer that is called, and each function that Keras has a layer for.

Modules are watched by hooks, functions by PyTorch's own way to intercept them; a shared nn.ReLU is a step
at each of its calls, and so is a ReLU that has no module. Nothing of the network is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .kinds import FUNCTIONS, kind_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
Seen = Callable[["Step"], Tensor | None]


@dataclass(frozen=True)
class Step:
    """One tensor on the way: what gave it, and what it was made of.

    `path` is the module's, or that of the part that called the function; `call` counts a module's calls
    from 1. `what` is the module's class or the function's name, `kind` Keras's name for it. A step that
    is not `listed` only passes values on, as a reshape does. One `along_last` computes along its last axis.
    """

    path: str
    call: int
    what: str
    kind: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    leaf: bool = False
    listed: bool = True
    along_last: bool = False


@contextmanager
def watched(model: nn.Module, seen: Seen) -> Iterator[None]:
    """Within, every forward of the model tells `seen` of each step; a tensor that it returns takes the step's place."""
    watch = _Watch(seen)
    handles: list[Any] = []
    try:
        for path, module in list(model.named_modules())[1:]:  # what the whole gives is what its last step gives
            handles.append(module.register_forward_pre_hook(partial(watch.enter, path)))
            handles.append(module.register_forward_hook(partial(watch.leave, path), with_kwargs=True))
        with _Functions(watch):
            yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Watch:
    seen: Seen
    inside: list[tuple[str, bool]] = field(default_factory=list)  # the modules we are in, and whether each is a leaf
    calls: Counter[str] = field(default_factory=Counter)

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # A Dense layer that flattens maps by itself is two layers in Keras: flattened out here, the first is seen.
        flattens = hasattr(module, "keras_flattened") and not any(leaf for _, leaf in self.inside)
        given = (args[0].flatten(1).reshape(args[0].shape),) if flattens else None
        self.inside.append((path, _is_leaf(module)))
        self.calls[path] += 1
        return given

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
        _, leaf = self.inside.pop()
        given = _last_time(module, _first(output))
        if given is None or isinstance(module, nn.Identity) or any(inner for _, inner in self.inside):
            return None
        what = type(module).__name__
        inputs = _tensors((args, tuple(kwargs.values())))
        kind, last = kind_of(what) if leaf else what, _is_along_last(module)
        step = Step(path, self.calls[path], what, kind, inputs, given, leaf, along_last=last)
        return _replaced(output, self.seen(step))

    def function(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
        given = _first(output)
        if given is None or any(leaf for _, leaf in self.inside):
            return output
        inputs = _tensors((args, tuple(kwargs.values())))
        listed = name in FUNCTIONS and _is_layer(FUNCTIONS[name], inputs, given)
        path = self.inside[-1][0] if self.inside else ""
        step = Step(path, 1, name, FUNCTIONS.get(name, name), inputs, given, listed=listed)
        replaced = _replaced(output, self.seen(step))
        return output if replaced is None else replaced


class _Functions(TorchFunctionMode):
    """Tells of each function of PyTorch that is called outside the layers."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        return self.watch.function(getattr(func, "__name__", ""), args, kwargs or {}, output)


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module computes by itself: its parts, if it has any, are no layers of their own."""
    if next(module.children(), None) is None:
        return not isinstance(module, CONTAINERS)
    return type(module).__module__.startswith("torch.nn.") and not isinstance(module, CONTAINERS)


def _is_along_last(module: nn.Module) -> bool:
    """Whether a layer takes the last axis for the channels; those that others derive from it may turn axes within."""
    return type(module) is nn.Linear or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1)


def _is_layer(kind: str, inputs: tuple[Tensor, ...], output: Tensor) -> bool:
    """Whether a function does what the Keras layer does: one tensor is put together with nothing, for example."""
    if kind in ("Concatenate", "Add"):
        return len(inputs) > 1
    if kind == "GlobalAveragePooling2D":
        return bool(inputs) and inputs[0].ndim == 4
    return kind != "Flatten" or output.ndim == 2


def _first(output: Any) -> Tensor | None:
    """The numbers that a step gives; of an output and a state, or of maxima and their places, the former."""
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) and output.ndim > 1 and output.is_floating_point() else None


def _last_time(module: nn.Module, output: Tensor | None) -> Tensor | None:
    """What Keras's recurrent layer gives unless it is told to return sequences: of a single nn.GRU, the last state."""
    if output is None or not isinstance(module, nn.RNNBase) or module.num_layers > 1 or module.bidirectional:
        return output
    return output[:, -1] if module.batch_first else output[-1]


def _replaced(output: Any, replacement: Tensor | None) -> Any:
    if replacement is None:
        return None
    return (replacement, *output[1:]) if isinstance(output, tuple) else replacement


def _tensors(values: Any) -> tuple[Tensor, ...]:
    if isinstance(values, Tensor):
        return (values,)
    if isinstance(values, (tuple, list)):
        return tuple(tensor for value in values for tensor in _tensors(value))
    return ()


def capture(model: nn.Module, x: Tensor, wanted: frozenset[int]) -> dict[int, Tensor]:
    """What these of the listed steps give for x; no step behind the last of them is computed.

    Each is a copy, made before a ReLU that works in place can overwrite it.
    """
    found: dict[int, Tensor] = {}
    count = 0

    def keep(step: Step) -> None:
        nonlocal count
        if step.listed:
            if count in wanted:
                found[count] = step.output.clone()
            count += 1
            if len(found) == len(wanted):
                raise _Enough

    try:
        with watched(model, keep):
            model.forward(x)
    except _Enough:
        pass
    return found


class _Enough(Exception):
    """All that was asked for is there."""


def on_nothing(model: nn.Module, shape: tuple[int, ...], seen: Seen) -> Any:
    """A forward that computes shapes alone, on tensors without numbers: it takes neither memory nor time."""
    state = {name: value.to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    with torch.no_grad(), watched(model, seen):
        return torch.func.functional_call(model, state, (torch.empty(shape, device="meta"),))
