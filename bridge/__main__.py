"""python -m bridge inspect | plan | convert | verify"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn

from . import BridgeError, Choices, Plan, Report, Source, __version__, convert, match, read
from .adapt import read_classes
from .command.factory import build
from .command.printing import complain, prepare, say
from .command.stopping import Stopped, stoppable
from .errors import one_line
from .hdf5 import LARGEST
from .naming.names import SCHEMES
from .plan import table
from .source import Shape
from .verify import verify_file


class Parser(argparse.ArgumentParser):
    """One line for a wrong call, as for any other error, and for help that cannot be printed."""

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {one_line(message)}. See {self.prog} --help.")
        self.exit(2)

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002 (it is stdout)
        say(message.rstrip())


def parser() -> Parser:
    top = Parser(prog="python -m bridge", description="Keras weights for PyTorch and back: see, plan, convert, prove.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="inspect | plan | convert | verify")

    verb = verbs.add_parser("inspect", help="what a weights file holds and says of itself")
    verb.add_argument("file", metavar="FILE")
    reading(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run_inspect)

    verb = verbs.add_parser("plan", help="what a load would do: copied, skipped, untouched, by name")
    verb.add_argument("file", metavar="FILE")
    reading(verb)
    pairing(verb)
    adapting(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run_plan)

    verb = verbs.add_parser("convert", help="write a .safetensors or .pt file, or one that Keras loads")
    verb.add_argument("source", metavar="SRC")
    verb.add_argument("destination", metavar="DST", help="ends in .safetensors, .pt, .pth; .h5, .weights.h5 or .keras")
    verb.add_argument("--to", choices=SCHEMES, default="keras", help="whose layer names (default: keras)")
    verb.add_argument(
        "--like", metavar="KERAS_FILE", help="the Keras file whose structure a Keras file is written with"
    )
    reading(verb)
    adapting(verb)
    verb.set_defaults(run=run_convert)

    verb = verbs.add_parser("verify", help="prove a load, layer by layer, with numbers")
    verb.add_argument("file", metavar="SRC")
    verb.add_argument("--weights", metavar="FILE", help="a converted file that goes into the module; SRC proves it")
    verb.add_argument("--reference", metavar="NPZ", help="inputs x and outputs y recorded anywhere, channels last")
    verb.add_argument("--epsilon", type=float, help="of normalisations, where the file does not say it")
    verb.add_argument("--keras", action="store_true", help="run the file's model in Keras beside it")
    reading(verb)
    pairing(verb)
    adapting(verb)
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run_verify)
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


def opened(file: str, options: argparse.Namespace) -> Source:
    """The file, read as the options say."""
    return read(
        file,
        largest=options.largest,
        dim_ordering=options.dim_ordering,
        kernels=options.kernels,
        flatten=maps(getattr(options, "flatten", ()), "flatten"),
    )


def choices(options: argparse.Namespace) -> Choices:
    """The options of a match or a conversion."""
    given: Choices = {
        "skip": options.skip,
        "flatten": maps(options.flatten, "flatten"),
        "unflatten": maps(options.unflatten, "unflatten"),
        "in_channels": options.in_channels,
        "flip_input": options.flip_input,
        "fold_batch_norm": options.fold_batch_norm,
        "classes": read_classes(*options.classes) if options.classes else None,
    }
    if "into" in options:
        given |= {
            "prefix": options.prefix,
            "rename": [pair(text, "rename", "OLD=NEW") for text in options.rename],
            "strict": options.strict,
            "names": options.names,
            "by": options.by,
        }
    return given


def run_inspect(options: argparse.Namespace) -> int:
    source = opened(options.file, options)
    source.check()
    described = describe(source)
    if options.json:
        say(json.dumps(described, indent=2))
        return 0
    heading = [
        one_line(f"{name.replace('_', ' '):15}{described[name]}")
        for name in ("file", "format", "keras_version", "backend", "tensors", "parameters")
        if described[name] is not None
    ]
    heading += [f"{'preprocessing':15}{source.preprocessing or 'not known'}", ""]
    rows = [
        (
            key.rpartition("/")[0],
            source.kinds.get(key.rpartition("/")[0], ""),
            key.rpartition("/")[2],
            str(list(stored.shape)),
            stored.dtype,
        )
        for key, stored in source.stored.items()
    ]
    lines = [*heading, *table([("layer", "class", "weight", "shape", "type"), *rows])]
    lines += [f"note: {note}" for note in (*source.notes, *([source.undecided] if source.undecided else []))]
    say("\n".join(map(one_line, lines)))
    return 0


def describe(source: Source) -> dict[str, Any]:
    """A source as plain JSON values."""
    return {
        "file": str(source.path),
        "format": source.format,
        "layout": source.layout,
        "keras_version": source.keras_version,
        "backend": source.backend,
        "preprocessing": source.preprocessing.to_dict() if source.preprocessing else None,
        "tensors": len(source),
        "parameters": sum(prod(shape) for shape in source.shapes.values()),
        "layers": [
            {
                "name": layer,
                "class": source.kinds.get(layer),
                "weights": {
                    role: {
                        "shape": list(shape),
                        "dtype": source.stored[f"{layer}/{role}" if layer else role].dtype,
                    }
                    for role, shape in shapes.items()
                },
            }
            for layer, shapes in source.layers.items()
        ],
        "notes": list(source.notes),
        "undecided": source.undecided,
    }


def run_plan(options: argparse.Namespace) -> int:
    source = opened(options.file, options)
    plan = match(source, build(options.into), **choices(options))
    source.check(key for key in source if key not in plan.skipped)
    show(plan, options.json)
    return 0


def run_convert(options: argparse.Namespace) -> int:
    source = opened(options.source, options)
    done = convert(source, options.destination, to=options.to, like=options.like, **choices(options))
    lines = [f"skipped {key}: {reason}" for key, reason in done.skipped.items()]
    lines += [f"{key} -> {name}: {step}" for key, (name, step) in done.converted.items() if step.maps]
    lines += [f"note: {note}" for note in done.notes]
    lines.append(f"{len(done.converted)} tensors -> {done.path}")
    say("\n".join(map(one_line, lines)), besides=f" {done.path} is written and complete.")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    report = verify_file(
        opened(options.file, options),
        build(options.into),
        weights=options.weights,
        reference=options.reference,
        keras=options.keras,
        epsilon=options.epsilon,
        **choices(options),
    )
    show(report, options.json)
    return 0 if report.ok else 1


def show(result: Plan | Report, as_json: bool) -> None:
    """A result as a table, or as JSON."""
    if as_json:
        say(json.dumps(result.to_dict(), indent=2))
    else:
        say("\n".join(map(one_line, str(result).split("\n"))))


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """An option of the form OLD=NEW."""
    old, equals, new = text.partition("=")
    if not (old and equals):
        raise BridgeError(f"--{option} {text!r} is not of the form {form}.")
    return old, new


def maps(texts: Sequence[str], option: str) -> dict[str, Shape | list[Shape] | None]:
    """What is said of each layer; two different things of one are refused."""
    found: dict[str, Shape | list[Shape] | None] = {}
    for layer, map_ in (flattened(text, option) for text in texts):
        if found.setdefault(layer, map_) != map_:
            raise BridgeError(f"--{option} says two things of {layer}: {found[layer]} and {map_}.")
    return found


def flattened(text: str, option: str) -> tuple[str, Shape | list[Shape] | None]:
    """An option of the form LAYER=HxWxC (two to four sizes), LAYER=HxWxC+N for one beside others, or LAYER=none."""
    layer, map_ = pair(text, option, "LAYER=HxWxC")
    if map_ == "none":
        return layer, None
    parts = [part.split("x") for part in map_.split("+")]
    least = 2 if len(parts) == 1 else 1
    if not all(least <= len(part) <= 4 and all(each.isdecimal() for each in part) for part in parts):
        raise BridgeError(f"--{option} {text!r} is not of the form LAYER=HxWxC.")
    sizes = [tuple(int(each) for each in part) for part in parts]
    return layer, sizes[0] if len(sizes) == 1 else sizes


def main(arguments: Sequence[str] | None = None) -> int:
    prepare()
    try:
        with stoppable():
            options = parser().parse_args(arguments)
            code: int = options.run(options)
    except BridgeError as error:
        complain(f"bridge: {error}")
        return 2
    except MemoryError:
        complain("bridge: this takes more memory than there is. Free some, or use a larger machine.")
        return 2
    except KeyboardInterrupt:
        complain("bridge: interrupted.")
        return 128 + signal.SIGINT
    except Stopped:
        complain("bridge: stopped by SIGTERM.")
        return 128 + signal.SIGTERM
    return code


if __name__ == "__main__":
    sys.exit(main())
