"""What every model of this package has besides its layers: its preprocessing, and its layers' Keras names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConvaeError
from .preprocessing import Preprocess


def softmax(logits: Tensor) -> Tensor:
    """Logits (N, classes, ...) to probabilities."""
    return logits.softmax(dim=1)


def probabilities(classes: int) -> Callable[[Tensor], Tensor]:
    """What makes logits (N, classes, ...) probabilities: a sigmoid for one class, else the softmax."""
    return torch.sigmoid if classes == 1 else softmax


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within; then every part has the mode it had, be it frozen or training."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for part, training in modes.items():
            part.training = training


class Model(nn.Module):
    """A network that takes preprocessed float32 (N, C, H, W) in `forward` and images of 0..255 in `predict`.

    A base class, so that nobody writes `predict` and `keras_layers` twice; a model still is its
    layers, `encode` and `decode`. One that is all encoder defines `forward` alone.
    """

    # Paths (globs) of the parts that `encode` runs. While all of them are frozen, and so in evaluation mode,
    # the features of an image never change and may be kept.
    ENCODING: ClassVar[tuple[str, ...]] = ("encoder",)
    AXES: ClassVar[str] = "N, C, H, W"  # of what the network takes

    def __init__(self, mode: str = "unit", activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.preprocessing = Preprocess(mode)
        self.activation = activation
        # What a run says of it: what the outputs are called, and the height and width of the images it saw.
        self.classes: tuple[str, ...] = ()
        self.image_size: tuple[int, int] | None = None

    @property
    def keras_layers(self) -> dict[str, str]:
        """Module path -> Keras layer name. The parts a network is built of have no counterpart in Keras."""
        return {
            path: path.rpartition(".")[2]
            for path, layer in self.named_modules()
            if path and next(layer.parameters(recurse=False), None) is not None
        }

    def encode(self, x: Tensor) -> Any:
        """The features of preprocessed images, and nothing else than what `decode` needs.

        A tensor, or lists and tuples of tensors, each with one row an image. Where `decode` needs the size of a map
        and none of its values, the map is there without its channels: (N, 0, H, W).
        """
        return self.forward(x)

    def decode(self, features: Any) -> Any:
        """What `forward` gives for the images with these features."""
        return features

    def forward(self, x: Tensor) -> Any:
        """`decode` of `encode`; what is no batch of images of the network's channels is refused."""
        if not torch.compiler.is_compiling():
            self.refuse_others(x)
        return self.decode(self.encode(x))

    @property
    def in_channels(self) -> int:
        """How many channels the first convolution takes."""
        return next(layer.in_channels for layer in self.modules() if isinstance(layer, nn.Conv2d))

    def folded(self) -> Model:
        """The network with nothing beside its weights, as a run keeps it: itself, as a rule."""
        return self

    def refuse_others(self, x: Tensor) -> None:
        """Refuse what is no batch of images of so many channels."""
        axes = self.AXES.split(", ")
        if x.ndim != len(axes) or x.shape[-3] != self.in_channels:
            taken = self.AXES.replace("C", str(self.in_channels))
            raise ConvaeError(f"{type(self).__name__} takes images ({taken}), not {tuple(x.shape)}.")

    def predict(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """What the network says of raw images (N, C, H, W) of 0..255: RGB where it has three channels.

        Probabilities (N, classes, ...) where it classifies, else what `forward` gives. The model's
        mode is left as it was. Refused: other axes, and another number of channels.
        """
        given = torch.as_tensor(images)
        self.refuse_others(given)
        where = next(self.parameters())
        with evaluating(self), torch.inference_mode():
            output: Tensor = self(self.preprocessing(given.to(where.device)).to(where.dtype))
            return self.activation(output) if self.activation else output
