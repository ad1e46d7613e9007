"""Activation checkpointing: what a block computes on the way is forgotten, and computed again when it is needed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from .batch_norm import untracked


def recompute(model: nn.Module) -> None:
    """Let every block of a model, in place, keep only what goes into it for the backward pass.

    A module that applies its blocks one by one does so in its method `run`, and is cut there; any other by its
    parts. Names and weights stay as they are, and so does every bit of the result: Dropout draws again what it
    drew, and running statistics move once.
    """
    for block, method in blocks(model):
        if method in vars(block):
            continue  # networks may share parts
        setattr(block, method, partial(_forward, block, getattr(block, method)))


def blocks(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The smallest parts of several layers, each with the method that applies it."""
    if hasattr(model, "run"):
        return [(model, "run")]
    found = [block for child in model.children() for block in blocks(child)]
    return list(dict.fromkeys(found)) or ([(model, "forward")] if _layers(model) > 1 else [])


def _layers(module: nn.Module) -> int:
    """How many layers with parameters there are within."""
    return sum(next(part.parameters(recurse=False), None) is not None for part in module.modules())


def _forward(block: nn.Module, forward: Any, *arguments: Any, **options: Any) -> Any:
    if not block.training and not any(parameter.requires_grad for parameter in block.parameters()):
        return forward(*arguments, **options)
    return checkpoint(
        forward,
        *arguments,
        use_reentrant=False,
        context_fn=lambda: _contexts(block),
        **options,
    )


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), untracked(block)
