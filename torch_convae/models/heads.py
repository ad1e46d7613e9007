"""Dense layers that classify."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import dense, numbered
from .flattening import DenseOnMap


class DenseHead(nn.Module):
    """Values (N, features) to logits (N, classes), through Dense layers with ReLU as wide as `hidden` says.

    With `size`, maps (N, features, H, W) of that size are flattened first. The layers carry Keras's numbers,
    `dense`, `dense_1`, ..., and the network's earlier ones are counted by `first`.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: Sequence[int] = (),
        *,
        size: tuple[int, int] | None = None,
        first: int = 0,
    ) -> None:
        super().__init__()
        self.names = [name for _, name in zip(range(first + len(hidden) + 1), numbered("dense"), strict=False)][first:]
        for rank, (name, width) in enumerate(zip(self.names, (*hidden, classes), strict=True)):
            layer = DenseOnMap(features, size, width) if size and rank == 0 else dense(features, width)
            self.add_module(name, layer)
            features = width
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.0)  # of what enters the last layer, for those who want any

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the softmax of the original's last layer is left to the loss and to `predict`."""
        *hidden, last = self.names
        for name in hidden:
            x = self.relu(self.get_submodule(name)(x))
        logits: Tensor = self.get_submodule(last)(self.dropout(x))
        return logits
