"""python -m torch_convae.predict RUN FILES: classes, masks, reconstructions or values of images, in a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..config import check_seed, parse_size
from ..errors import ConvaeError
from ..verbs import command
from ..verbs.inputs import Failures
from ..verbs.outputs import check_folder, made_by
from ..verbs.sources import add_source_flags, inputs_of, source, takes_sequences
from .answers import Answers, kind_of, takes_other_sizes
from .windows import Windows
from .work import FAILED, Job, predict


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; 0 when done, 1 where some files could not be used (they are listed), 2 for bad input."""
    return command.run("predict", parser(), arguments, act)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command.parser(
        "predict",
        "What a trained network says of images: a class with probabilities (classes.csv), a mask and its overlay, a "
        "reconstruction and its error, or values (values.csv). Files that cannot be used are left out and listed, on "
        f"stderr and in {FAILED}; the exit code then is 1.",
    )
    add_source_flags(made)
    made.add_argument("images", nargs="*", metavar="FILES", help="image files, .npy arrays (H, W, C), or folders")
    made.add_argument(
        "--size",
        metavar="HxW",
        help="show the network images of this size (default: a class's, as in the run; else own)",
    )
    windows = Windows()
    made.add_argument("--window", type=int, default=windows.side, metavar="N", help="larger images go by such squares")
    made.add_argument("--overlap", type=int, default=windows.overlap, metavar="N", help="pixels that neighbours share")
    made.add_argument("--flips", action="store_true", help="the mean over the image and its mirror images, both ways")
    made.add_argument("--samples", type=int, default=10, metavar="N", help="passes of a Bayesian network (default: 10)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of these passes (default: 0)")
    made.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at a time (default: 8)")
    command.add_output_flags(made, "predictions", "FOLDER")
    return made


def act(options: argparse.Namespace) -> Failures:
    """Predict, as the flags say."""
    if not options.images:
        raise ConvaeError("There are no FILES. Name images, or a folder of them.")
    for flag, count, what in (("--batch-size", options.batch_size, "images"), ("--samples", options.samples, "passes")):
        if count < 1:
            raise ConvaeError(f"{flag} {count} is not a number of {what}. Give at least 1.")
    if options.samples == 1:
        raise ConvaeError("--samples 1 is one pass, which differs from no other: no uncertainty. Give at least 2.")
    check_seed(options.seed)
    windows, size = Windows(options.window, options.overlap), parse_size(options.size)
    windows.check()
    folder, made = Path(options.out), made_by("predict", options.source, options.weights)
    check_folder(folder, made, options.overwrite)
    network = source(options)
    network.refuse_untouched()
    model, own = network.model, network.model.image_size or network.size
    if options.flips and takes_sequences(model):
        raise ConvaeError(
            "--flips is for images: the values of a sequence are others where it is mirrored. Leave it out."
        )
    kind = kind_of(model, size or own)
    if size is None and own:
        if kind.maps and takes_other_sizes(model, own):
            _note(own)
        else:
            size = own
    torch.manual_seed(options.seed)
    answers = Answers(model, options.flips, options.samples)
    job = Job(answers, kind, size, windows, folder, made, options.batch_size, command.largest(options))
    lines, failures = predict(job, inputs_of(model, options.images))
    network.announce()
    shown = f", shown at {size[0]} x {size[1]}" if size else ""
    inputs = "sequences" if takes_sequences(model) else "images"
    print(
        f"{folder}: {kind.name} of {len(lines)} {inputs}{shown}"
        + (f"; {len(failures.lines)} failed" * bool(failures.lines))
    )
    return failures


def _note(size: tuple[int, int]) -> None:
    print(f"The run saw images of {size[0]} x {size[1]}. Yours are taken at their own size; --size resizes them.")


if __name__ == "__main__":
    sys.exit(main())
