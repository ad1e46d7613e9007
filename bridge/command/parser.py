"""The command line: four verbs and their options, in groups that say what they are for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NoReturn

from ..errors import one_line
from ..hdf5 import LARGEST
from ..naming.names import SCHEMES
from ..version import VERSION
from .printing import complain, say

Run = Callable[[argparse.Namespace], int]  # what a verb does, and the exit code


class Parser(argparse.ArgumentParser):
    """One line for a wrong call, as for any other error, and for help that cannot be printed."""

    def error(self, message: str) -> NoReturn:
        """What is wrong with the call, in one line, and exit code 2."""
        complain(f"{self.prog}: {one_line(message)}. See {self.prog} --help.")
        self.exit(2)

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002 (it is stdout)
        say(message.rstrip())


def parser(verbs: Mapping[str, Run]) -> Parser:
    """The four verbs with their options; each sets `run` to what does it."""
    top = Parser(prog="python -m bridge", description="Keras weights for PyTorch and back: see, plan, convert, prove.")
    top.add_argument("--version", action="version", version=VERSION)
    added = top.add_subparsers(required=True, metavar="inspect | plan | convert | verify")

    verb = added.add_parser("inspect", help="what a weights file holds and says of itself")
    verb.add_argument("file", metavar="FILE")
    reading(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=verbs["inspect"])

    verb = added.add_parser("plan", help="what a load would do: copied, skipped, untouched, by name")
    verb.add_argument("file", metavar="FILE")
    reading(verb)
    pairing(verb)
    adapting(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=verbs["plan"])

    verb = added.add_parser("convert", help="write a .safetensors or .pt file, or one that Keras loads")
    verb.add_argument("source", metavar="SRC")
    verb.add_argument("destination", metavar="DST", help="ends in .safetensors, .pt, .pth; .h5, .weights.h5 or .keras")
    verb.add_argument("--to", choices=SCHEMES, default="keras", help="whose layer names (default: keras)")
    verb.add_argument(
        "--like", metavar="KERAS_FILE", help="the Keras file whose structure a Keras file is written with"
    )
    reading(verb)
    adapting(verb)
    verb.set_defaults(run=verbs["convert"])

    verb = added.add_parser("verify", help="prove a load, layer by layer, with numbers")
    verb.add_argument("file", metavar="SRC")
    verb.add_argument("--weights", metavar="FILE", help="a converted file that goes into the module; SRC proves it")
    verb.add_argument("--reference", metavar="NPZ", help="inputs x and outputs y recorded anywhere, channels last")
    verb.add_argument("--epsilon", type=float, help="of normalisations, where the file does not say it")
    verb.add_argument("--keras", action="store_true", help="run the file's model in Keras beside it")
    reading(verb)
    pairing(verb)
    adapting(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=verbs["verify"])
    return top


def reading(verb: argparse.ArgumentParser) -> None:
    """What a file may leave open."""
    group = verb.add_argument_group("reading")
    group.add_argument(
        "--dim-ordering", choices=("th", "tf"), help="how an old file's kernels lie: th is (out, in, h, w)"
    )
    group.add_argument("--kernels", choices=("th", "tf"), help="whose an old file's kernels are: Theano's are rotated")
    group.add_argument("--largest", type=size, default=LARGEST, metavar="BYTES", help="refuse more than this (4G)")


def pairing(verb: argparse.ArgumentParser) -> None:
    """How the module is made and its layers are paired with the file's."""
    group = verb.add_argument_group("pairing")
    group.add_argument(
        "--into",
        required=True,
        metavar="MODULE:FACTORY",
        help="what makes the nn.Module; arguments may follow: create('vgg16', classes=9)",
    )
    group.add_argument("--prefix", default="", help="the part of the module that the file describes, such as encoder")
    more(group, "--rename", "OLD=NEW", "a name, a glob or a regular expression")
    group.add_argument("--strict", action="store_true", help="refuse if anything is skipped or untouched")
    group.add_argument("--names", choices=SCHEMES, help="how the module names its layers (default: as it looks)")
    group.add_argument("--by", choices=("name", "order"), default="name", help="pair layers by kind and order instead")


def adapting(verb: argparse.ArgumentParser) -> None:
    """What is left out, and what changes on the way."""
    group = verb.add_argument_group("adapting")
    more(group, "--skip", "GLOB", "layers, weights or targets to leave alone")
    more(
        group,
        "--flatten",
        "LAYER=HxWxC",
        "the map that a Flatten takes (HxWxC+N: beside N other values), or none",
    )
    more(group, "--unflatten", "LAYER=HxWxC", "the map that a Dense layer's outputs are reshaped to, or none")
    group.add_argument("--in-channels", type=int, metavar="N", help="make the first convolution one of N channels")
    group.add_argument(
        "--flip-input", action="store_true", help="the first convolution takes RGB instead of BGR, or back"
    )
    group.add_argument("--fold-batch-norm", action="store_true", help="fold normalisations into the layers before them")
    group.add_argument(
        "--classes",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="files of class names, one a line, that carry a head's rows over: car; vehicle = car + truck; new =",
    )


def more(group: argparse._ArgumentGroup, flag: str, form: str, text: str) -> None:
    """A flag that may be given again."""
    group.add_argument(flag, action="append", default=[], metavar=form, help=f"{text}; again for more")


def size(text: str) -> int:
    """A number of bytes, which may end in K, M or G."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    return int(text if unit == 1 else text[:-1]) * unit
