"""python -m torch_convae.explain RUN IMAGE: pictures of what in an image speaks for a class."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..config import parse_size
from ..errors import ConvaeError
from ..layers import find, layers
from ..models import Model
from ..pictures.colours import heat, over
from ..pictures.png import COLOUR, png
from ..predict.answers import MASKS, RECONSTRUCTIONS, Kind, accepted, answer_shape, kind_of
from ..predict.results import class_names
from ..predict.work import picture_names
from ..verbs import command
from ..verbs.inputs import Failures, items
from ..verbs.outputs import check_folder, made_by, open_folder
from ..verbs.rasters import raster
from ..verbs.sources import add_source_flags, channels, source, takes_sequences
from .methods import default_layer, gradcam, gradients, normalised, occlusion
from .place import Place, parse_place
from .question import class_index, question

METHODS = ("gradcam", "gradients", "occlusion")


def main(arguments: Sequence[str] | None = None) -> int:
    """Explain; 0 when done, 1 where some images could not be used, 2 for bad input."""
    return command.run("explain", parser(), arguments, act)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command.parser(
        "explain",
        "Pictures of what in an image speaks for a class: black where nothing does, white where most does. The class "
        "is that of the image, or one of a segmentation over the pixels that have it.",
    )
    add_source_flags(made)
    made.add_argument("images", nargs="*", metavar="IMAGE", help="image files, .npy arrays (H, W, C), or folders")
    made.add_argument("--method", choices=METHODS, default=METHODS[0], help="how (default: gradcam)")
    made.add_argument(
        "--layer", metavar="NAME", help="Grad-CAM's, by Keras's or torchvision's name (default: the last convolution)"
    )
    made.add_argument("--target", metavar="CLASS", help="a class by name or number (default: the most probable)")
    made.add_argument(
        "--at", metavar="Y,X", help="of a segmentation: this pixel alone, by its row and column in the file, from 0"
    )
    made.add_argument(
        "--size", metavar="HxW", help="show the network the image at this size (default: as in the run, or as built)"
    )
    command.add_output_flags(made, "explanations", "FOLDER")
    return made


@dataclass(frozen=True)
class Asked:
    """What is explained of which network, and how."""

    model: Model
    kind: Kind
    method: str
    layer: str | None
    target: int | None
    names: tuple[str, ...]
    place: Place | None


def act(options: argparse.Namespace) -> Failures:
    """Explain, as the flags say."""
    if not options.images:
        raise ConvaeError("There is no IMAGE. Name one, or several.")
    if options.layer and options.method != "gradcam":
        raise ConvaeError(f"--method {options.method} looks at no layer; leave --layer out, or choose gradcam.")
    folder, made = Path(options.out), made_by("explain", options.source, options.weights)
    check_folder(folder, made, options.overwrite)
    network = source(options)
    network.refuse_untouched()
    model = network.model
    size = parse_size(options.size) or model.image_size or network.size
    asked = _asked(model, options, size)
    given, failures, written = items(options.images), Failures(), 0
    names = picture_names(given)
    for item in given:
        with failures.of([item]):
            with raster(item.path, channels(model), command.largest(options)) as image:
                pixels, own = image.whole(size), (image.height, image.width)
            map_, what = explained(asked, pixels, own)
            if not written:
                open_folder(folder, made)
                network.announce()
            path = folder / f"{names[item.path]}_{asked.method}.png"
            picture = over(pixels, heat(map_.numpy()))
            with png(path, picture.shape[:2], COLOUR) as rows:
                rows.write(picture)
            written += 1
            print(f"{path}: {what}")
    if not written:
        raise ConvaeError(failures.all_of_them())
    return failures


def _asked(model: Model, options: argparse.Namespace, size: tuple[int, int] | None) -> Asked:
    """The question for every image; a layer or class that is not there is refused before any image is read."""
    if takes_sequences(model):
        raise ConvaeError(f"{options.source} takes sequences, in which no picture shows what speaks for a value.")
    kind, place = kind_of(model, size), parse_place(options.at)
    if kind == RECONSTRUCTIONS:
        raise ConvaeError(f"{options.source} gives reconstructions, in which there is no class to explain.")
    if place and kind != MASKS:
        raise ConvaeError(f"{options.source} gives a class for all of an image. Leave --at out.")
    names = class_names(model, answer_shape(model, size)[0])
    target = class_index(options.target, names) if options.target is not None else None
    if options.layer and size:
        find(layers(model, (channels(model), *size)), options.layer)
    return Asked(model, kind, options.method, options.layer, target, names, place)


def explained(asked: Asked, pixels: NDArray[np.uint8], own: tuple[int, int]) -> tuple[Tensor, str]:
    """The map 0..1 (H, W) of an image (H, W, C), and in words what it is of; `own` is the size of its file."""
    model, (height, width) = asked.model, pixels.shape[:2]
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    x = model.preprocessing(image.to(next(model.parameters()).device))
    if asked.kind == MASKS:  # its answer is needed for all of the image
        tall, broad = accepted(model, (height, width))
        x = F.pad(x, (0, broad - width, 0, tall - height), mode="replicate")
    with torch.no_grad():
        output = model(x)
    region = None
    if asked.place:
        region = asked.place.region(own, (height, width), (x.shape[-2], x.shape[-1]), tuple(output.shape[-2:]))
    target = int(question(output, asked.target, region).targets[0])
    maps, how = _maps(asked, x, target, region)
    where = f" at {asked.place.row},{asked.place.column}" if asked.place else ""
    return maps[0].cpu()[:height, :width], f"{asked.names[target]}{where}, by {how}"


def _maps(asked: Asked, x: Tensor, target: int, region: Tensor | None) -> tuple[Tensor, str]:
    if asked.method == "gradients":
        return gradients(asked.model, x, target, region), "the gradients of the input"
    if asked.method == "occlusion":
        return normalised(occlusion(asked.model, x, target, region)), "occlusion"
    known = layers(asked.model, tuple(x.shape[1:]))
    layer = find(known, asked.layer) if asked.layer else default_layer(known)
    return gradcam(asked.model, x, layer.name, target, region), f"Grad-CAM at {layer.name}"


if __name__ == "__main__":
    sys.exit(main())
