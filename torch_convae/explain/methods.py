"""Why a network says what it says: Grad-CAM, the gradients of the input, and what is lost where a patch is hidden.

Each takes images (N, C, H, W) as `forward` does and gives maps (N, H, W). Logits are explained, not
probabilities. The model computes in evaluation mode and is left as it was, and no gradient stays in it;
it may be frozen. Sources: Selvaraju et al. 2017 (Grad-CAM), Simonyan et al. 2014 (gradients), Zeiler and
Fergus 2014 (occlusion).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConvaeError
from ..layers import Layer, Step, find, layers, watched
from ..models import evaluating
from .question import Question, question

Target = int | Sequence[int] | Tensor | None
STAGES = ("Conv2D", "BatchNormalization", "Activation")
PATCHES = 8  # to a side of the image, by default; they move by half their size


def gradcam(
    model: nn.Module, x: Tensor, layer: str | None = None, target: Target = None, region: Tensor | None = None
) -> Tensor:
    """Grad-CAM, 0..1 for each image: where the maps of a layer, weighted by their mean gradients, speak for the class.

    The layer is a Keras or torchvision name or a path, and by default the last convolution at the smallest size;
    a vector is refused. `target` and `region` are explained at `question`.
    """
    known = layers(model, tuple(x.shape[1:]))
    chosen = find(known, layer) if layer else default_layer(known)
    if len(chosen.shape) != 3:
        raise ConvaeError(f"{chosen.name} gives {chosen.size} values and no map. Name a layer in front of it.")
    with evaluating(model):
        output, maps = _from_layer(model, x, chosen.step)
        (gradient,) = torch.autograd.grad(question(output.detach(), target, region).score(output).sum(), maps)
    maps, gradient = chosen.channels_first(maps.detach()), chosen.channels_first(gradient)
    weighted = (gradient.mean((-2, -1), keepdim=True) * maps).sum(1).relu()
    return normalised(F.interpolate(weighted[:, None], x.shape[-2:], mode="bilinear")[:, 0])


def default_layer(known: Sequence[Layer]) -> Layer:
    """The last convolution, with what follows it, at the smallest size of any: `block5_conv3` of VGG16."""
    stages = [layer for layer in known if layer.kind in STAGES and len(layer.shape) == 3 and _final(layer)]
    if not stages:
        raise ConvaeError("The network has no convolution. Name a --layer.")
    smallest = min(layer.shape[1] * layer.shape[2] for layer in stages)
    return [layer for layer in stages if layer.shape[1] * layer.shape[2] == smallest][-1]


def _final(layer: Layer) -> bool:
    return "before" not in layer.activation


def _from_layer(model: nn.Module, x: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """The output, and the maps of that step as the leaf that it was computed from: what is before needs no graph."""
    count, leaf = 0, None

    def cut(step: Step) -> Tensor | None:
        nonlocal count, leaf
        if step.listed:
            count += 1
            if count - 1 == place:
                leaf = step.output.detach().clone().requires_grad_()
                torch.set_grad_enabled(True)
                return leaf.clone()  # a ReLU may work in place on it, and must not on a leaf
        return None

    with torch.no_grad(), watched(model, cut):
        output: Tensor = model.forward(x)
    assert leaf is not None
    return output, leaf


def gradients(model: nn.Module, x: Tensor, target: Target = None, region: Tensor | None = None) -> Tensor:
    """How much the class's logit changes with each pixel, 0..1: the largest of its channels' absolute gradients."""
    given = x.detach().clone().requires_grad_()
    with evaluating(model), torch.enable_grad():
        output = model(given)
        (gradient,) = torch.autograd.grad(question(output.detach(), target, region).score(output).sum(), given)
    return normalised(gradient.abs().amax(1))


def occlusion(
    model: nn.Module, x: Tensor, target: Target = None, region: Tensor | None = None, patch: int | None = None
) -> Tensor:
    """How much of the class's logit is lost where a square patch is hidden under the image's mean colour.

    The mean over the patches that hide a pixel, in logits: negative where hiding helps. `patch` is their side, by
    default an eighth of the image's; they move by half of it.
    """
    height, width = x.shape[-2:]
    side = patch or max(1, min(height, width) // PATCHES)
    lost, hidden = torch.zeros(len(x), height, width), torch.zeros(height, width)
    mean = x.mean((-2, -1), keepdim=True)
    with evaluating(model), torch.no_grad():
        output = model(x)
        asked: Question = question(output, target, region)
        before = asked.score(output)
        for top in _places(height, side):
            for left in _places(width, side):
                place = (..., slice(top, top + side), slice(left, left + side))
                covered = x.clone()
                covered[place] = mean
                change = before - asked.score(model(covered))
                lost[place] += change.cpu()[:, None, None]
                hidden[place] += 1
    return lost / hidden


def _places(length: int, side: int) -> Iterator[int]:
    """Where patches begin, so that every pixel is hidden and the last patch ends with the side."""
    last = max(length - side, 0)
    yield from range(0, last, max(side // 2, 1))
    yield last


def normalised(maps: Tensor) -> Tensor:
    """Each map divided by its largest value; one without any stays zero."""
    positive = maps.clamp(min=0)
    return positive / positive.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
