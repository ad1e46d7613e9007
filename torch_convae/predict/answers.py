"""What a network answers for images: of which kind, at which size, as the mean over mirror images and samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConvaeError
from ..layers import output_shape
from ..models import BayesianSegNet, Model
from ..verbs.sources import input_shape

MULTIPLES = (1, 2, 4, 8, 16, 32)  # the deepest network here halves five times
HALVED = (1, 2)  # how much smaller than its image a network's answer is
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
SMALL = (64, 64)


@dataclass(frozen=True)
class Kind:
    """What a network gives, and what that is called."""

    name: str
    maps: bool


CLASSES, MASKS = Kind("classes", maps=False), Kind("masks", maps=True)
VALUES, RECONSTRUCTIONS = Kind("values", maps=False), Kind("reconstructions", maps=True)


def kind_of(model: Model, size: tuple[int, int] | None) -> Kind:
    """Classes or values for an image, or a class or a colour for each pixel. A network without an answer is refused."""
    shape, given = input_shape(model, size or SMALL), answer_shape(model, size)
    if len(given) == 1:
        return CLASSES if model.activation else VALUES
    if model.activation:
        return MASKS
    if given == shape:
        return RECONSTRUCTIONS
    raise ConvaeError(
        f"{type(model).__name__} gives {' x '.join(map(str, given))} features and no answer. See torch_convae.features."
    )


def answer_shape(model: Model, size: tuple[int, int] | None) -> tuple[int, ...]:
    """What a network gives for an image of this size, or for any: (K,) or (K, h, w)."""
    return output_shape(model, input_shape(model, size or SMALL))


@dataclass(frozen=True)
class Answers:
    """How a network is asked: with `flips` it sees the image and its three mirror images; `samples` are Bayesian's."""

    model: Model
    flips: bool
    samples: int

    @property
    def uncertain(self) -> bool:
        """Whether there is an uncertainty beside the answer."""
        return isinstance(self.model, BayesianSegNet)

    def whole(self, images: Tensor) -> Tensor:
        """(N, K) or (N, K, h, w) for images (N, C, H, W) of 0..255; an uncertainty, if any, is the last of the K."""
        return self._mean(images, lambda given: given)

    def pixels(self, images: Tensor) -> Tensor:
        """The same at the images' own size, whatever multiple the network needs: edges are repeated up to it."""
        height, width = images.shape[-2:]
        tall, broad = accepted(self.model, (height, width))
        padded = images.float()
        if (tall, broad) != (height, width):
            padded = F.pad(padded, (0, broad - width, 0, tall - height), mode="replicate")

        def sized(given: Tensor) -> Tensor:
            if given.shape[-2:] != (tall, broad):
                given = F.interpolate(given, (tall, broad), mode="bilinear")
            return given

        return self._mean(padded, sized)[..., :height, :width]

    def _mean(self, images: Tensor, sized: Callable[[Tensor], Tensor]) -> Tensor:
        total: Tensor | None = None
        flips = FLIPS if self.flips else FLIPS[:1]
        for axes in flips:
            given = sized(self._ask(images.flip(axes)))
            given = given.flip(axes) if given.ndim == 4 else given
            total = given if total is None else total + given
        assert total is not None
        return (total / len(flips)).float().cpu()

    def _ask(self, images: Tensor) -> Tensor:
        if not isinstance(self.model, BayesianSegNet):  # no other knows how sure it is
            return self.model.predict(images)
        mean, uncertainty = self.model.predict_with_uncertainty(images, self.samples)
        return torch.cat([mean, uncertainty[:, None]], dim=1)


@lru_cache(maxsize=256)
def accepted(model: Model, size: tuple[int, int]) -> tuple[int, int]:
    """The size itself where the network answers for all of it, else with the next multiple of 2, 4, 8, 16 or 32."""
    for multiple in MULTIPLES:
        height, width = (-(-side // multiple) * multiple for side in size)
        with suppress(ConvaeError):
            given = output_shape(model, input_shape(model, (height, width)))[-2:]
            if any(tuple(side * halved for side in given) == (height, width) for halved in HALVED):
                break
    else:
        output_shape(model, input_shape(model, (height, width)))  # refuses what no size helps
    return height, width


def takes_other_sizes(model: Model, size: tuple[int, int]) -> bool:
    """Whether a network answers for images of another size than this one, on which it was trained."""
    try:
        accepted(model, (size[0] + MULTIPLES[-1], size[1] + MULTIPLES[-1]))
    except ConvaeError:
        return False
    return True
