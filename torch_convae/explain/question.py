"""Which output is explained: a class of each image, or a class of a segmentation over some of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from ..errors import ConvaeError


@dataclass(frozen=True)
class Question:
    """The class of each image (N,), and for a segmentation the pixels (N, h, w) that are summed."""

    targets: Tensor
    region: Tensor | None = None

    def score(self, output: Tensor) -> Tensor:
        """One number (N,) for each image: the logit of its class, for a segmentation summed over the region."""
        chosen = output[torch.arange(len(output), device=output.device), self.targets]
        return chosen if self.region is None else (chosen * self.region).sum((-2, -1))


def question(output: Tensor, target: int | Sequence[int] | Tensor | None, region: Tensor | None = None) -> Question:
    """What to explain in these logits, (N, classes) or (N, classes, h, w).

    Without a target it is the most probable class, in a segmentation the one of most pixels; without a region
    (N, h, w) the pixels of that class, or all where there are none.
    """
    if output.ndim not in (2, 4):
        raise ConvaeError(f"An output of {tuple(output.shape)} has no classes to explain.")
    count, found = output.shape[1], None if output.ndim == 2 else _most_probable(output)
    if target is None:
        targets = _most_probable(output) if found is None else torch.stack([_most_frequent(one) for one in found])
    else:
        targets = torch.as_tensor(target, device=output.device).expand(len(output)).long()
    if int(targets.min()) < 0 or int(targets.max()) >= count:
        raise ConvaeError(f"There is no class {int(targets.max())}; the network has {count}, from 0 on.")
    if found is None:
        return Question(targets)
    if region is None:
        own = found == (targets if count > 1 else torch.ones_like(targets))[:, None, None]
        region = torch.where(own.any(-1).any(-1)[:, None, None], own, torch.ones_like(own))
    if region.shape != found.shape:
        raise ConvaeError(
            f"The region is {tuple(region.shape)}, but the output's pixels are {tuple(found.shape)}. Give it so."
        )
    return Question(targets, region.to(output.device, output.dtype))


def _most_probable(output: Tensor) -> Tensor:
    """The class of each image or pixel; where there is one alone, whether it is there, and that of an image is 0."""
    if output.shape[1] > 1:
        return output.argmax(1)
    return (output[:, 0] > 0).long() if output.ndim == 4 else torch.zeros(len(output), dtype=torch.long)


def _most_frequent(classes: Tensor) -> Tensor:
    return torch.bincount(classes.flatten()).argmax()


def class_index(name: str, names: Sequence[str]) -> int:
    """The index of a class by its name or number; an unknown one is refused with the nearest."""
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = get_close_matches(name, names, n=3) or list(names)[:5]
    raise ConvaeError(f"There is no class {name!r}; the nearest are {', '.join(near)}.")
