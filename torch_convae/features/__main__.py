"""python -m torch_convae.features SOURCE IMAGES --layer NAME: what layers give for images, as a file; or their list."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import parse_size
from ..errors import ConvaeError
from ..verbs import command
from ..verbs.inputs import Failures
from ..verbs.outputs import check_file, made_by
from ..verbs.sources import add_source_flags, inputs_of, source
from .extract import Asked, Limits, Target, extract
from .listing import listing
from .shape import ORDERS, POOLS
from .store import ENDINGS, about

DEFAULT_SIZE = (224, 224)


def main(arguments: Sequence[str] | None = None) -> int:
    """List or extract; 0 when done, 1 where some images could not be used, 2 for bad input."""
    return command.run("features", parser(), arguments, act)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command.parser(
        "features", "What a network's layers give for images, as one file; or, with --list, which layers it has."
    )
    add_source_flags(made)
    made.add_argument("images", nargs="*", metavar="IMAGES", help="image files, .npy arrays (H, W, C), or folders")
    made.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="NAME",
        help="a Keras name (block5_conv3, with its activation; block5_conv3:pre without), torchvision's name "
        "(features.28) or a module's path; may be given again",
    )
    made.add_argument("--list", action="store_true", help="show every layer, its output's shape and size, and leave")
    made.add_argument("--size", metavar="HxW", help="resize images to this height and width")
    made.add_argument("--pool", choices=sorted(POOLS), help="mean or maximum over the map, or all its values in a row")
    made.add_argument(
        "--order", choices=ORDERS, default="chw", help="of the axes, flattened or not: PyTorch's, or Keras's hwc"
    )
    made.add_argument("--batch-size", type=int, default=16, metavar="N", help="images at a time (default: 16)")
    command.add_output_flags(made, "features.npz", "FILE.npz|FILE.safetensors")
    return made


def act(options: argparse.Namespace) -> Failures:
    """List or extract, as the flags say."""
    if not options.list and not (options.layer and options.images):
        lacks = "IMAGES" if options.layer else "--layer"
        raise ConvaeError(f"{lacks} is missing. Name some; --list shows which layers there are.")
    if options.batch_size < 1:
        raise ConvaeError(f"--batch-size {options.batch_size} is not a number of images. Give at least 1.")
    network, size = source(options), parse_size(options.size)
    size = size or network.model.image_size
    if options.list:
        with network.sized():
            table = listing(network, size or network.size or DEFAULT_SIZE)
        network.announce()
        print(table)
        return Failures()
    out, made = Path(options.out), made_by("features", options.source, options.weights)
    if out.suffix not in ENDINGS:
        raise ConvaeError(f"--out {out} ends neither with {' nor with '.join(ENDINGS)}. Choose one.")
    check_file(out, made, options.overwrite, lambda path: (about(path) or {}).get("made_by"))
    asked = Asked(tuple(dict.fromkeys(options.layer)), size, options.pool, options.order)
    limits = Limits(options.batch_size, command.largest(options))
    return extract(network, inputs_of(network.model, options.images), asked, limits, Target(out, made))


if __name__ == "__main__":
    sys.exit(main())
