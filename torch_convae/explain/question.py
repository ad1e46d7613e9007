"""Which output is explained: a class of each image, or a class of a segmentation over some of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from unicodedata import normalize

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

    Without a target it is the most probable class, in a segmentation the one of most pixels, or of most of the region;
    without a region (N, h, w) the pixels of that class, or all where there are none. A class alone is the target.
    """
    if output.ndim not in (2, 4):
        raise ConvaeError(f"An output of {tuple(output.shape)} has no classes to explain.")
    if region is not None:
        _refuse_other_pixels(region, output)
    count, found = output.shape[1], output.argmax(1)
    if target is not None:
        targets = torch.as_tensor(target, device=output.device).expand(len(output)).long()
    else:
        targets = found if output.ndim == 2 else _most_frequent(found, region)
    if int(targets.min()) < 0 or int(targets.max()) >= count:
        raise ConvaeError(f"There is no class {int(targets.max())}; the network has {count}, from 0 on.")
    if output.ndim == 2:
        return Question(targets)
    if region is None:
        own = found == targets[:, None, None] if count > 1 else output[:, 0] > 0  # alone, it is there or not
        region = torch.where(own.any(-1).any(-1)[:, None, None], own, torch.ones_like(own))
    return Question(targets, region.to(output.device, output.dtype))


def _refuse_other_pixels(region: Tensor, output: Tensor) -> None:
    """A region of other pixels than the output's, or of none."""
    pixels = (len(output), *output.shape[2:])
    if tuple(region.shape) != pixels or output.ndim == 2:
        raise ConvaeError(f"The region is {tuple(region.shape)}, but the output's pixels are {pixels}. Give it so.")
    if not bool(region.flatten(1).any(1).all()):
        raise ConvaeError("The region has no pixel. Mark one at least.")


def _most_frequent(found: Tensor, region: Tensor | None) -> Tensor:
    """The class of most pixels of each image (N, h, w), within the region where there is one."""
    within = torch.ones_like(found) if region is None else region.to(found.device) != 0
    return torch.stack([torch.bincount(one[inside.bool()]).argmax() for one, inside in zip(found, within, strict=True)])


def class_index(name: str, names: Sequence[str]) -> int:
    """The index of a class by its name or number; an unknown one is refused with the nearest."""
    composed = [normalize("NFC", each) for each in names]  # an accent may be a sign of its own
    if normalize("NFC", name) in composed:
        return composed.index(normalize("NFC", name))
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = get_close_matches(name, names, n=3) or list(names)[:5]
    raise ConvaeError(f"There is no class {name!r}; the nearest are {', '.join(near)}.")
