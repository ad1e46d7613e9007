"""The order of training: which images make up each batch of an epoch."""

import hashlib

import torch
from torch import Tensor

from ..errors import ConvaeError


def batch_indices(count: int, batch_size: int, seed: int, epoch: int, least: int = 2) -> list[Tensor]:
    """Index tensors, int64 on the CPU, that together hold 0..count-1 once each in shuffled order.

    The order depends on (seed, epoch) alone, so a resumed run draws what the unbroken one would have drawn.
    A last batch of less than `least` images joins the batch before it, because BatchNorm cannot train on one
    value, and no process on none.
    """
    if count < 1 or batch_size < 1:
        raise ConvaeError(f"{count} images in batches of {batch_size} make no batch; give at least 1 of each.")
    order = torch.randperm(count, generator=_generator(seed, epoch))
    batches = list(torch.split(order, batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A hash, not a sum: seed 1 in epoch 0 must not repeat seed 0 in epoch 1."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
