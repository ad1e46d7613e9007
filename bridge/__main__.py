"""python -m bridge inspect | plan | convert"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn

from . import BridgeError, Source, __version__, convert, match, read
from .factory import build
from .names import SCHEMES
from .plan import table


class Parser(argparse.ArgumentParser):
    """One line for a wrong call, as for any other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def parser() -> Parser:
    top = Parser(prog="python -m bridge", description="Keras and torchvision weights for PyTorch: see, plan, convert.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="inspect | plan | convert")

    verb = verbs.add_parser("inspect", help="what a weights file holds and says of itself")
    verb.add_argument("file", metavar="FILE")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run_inspect)

    verb = verbs.add_parser("plan", help="what a load would do: copied, skipped, untouched, by name")
    verb.add_argument("file", metavar="FILE")
    verb.add_argument(
        "--into",
        required=True,
        metavar="MODULE:FACTORY",
        help="what makes the nn.Module; arguments may follow: create('vgg16', classes=9)",
    )
    verb.add_argument("--prefix", default="", help="the part of the module that the file describes, such as encoder")
    verb.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a name, a glob or a regular expression; again for more",
    )
    verb.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="GLOB",
        help="layers, weights or targets to leave alone; again for more",
    )
    verb.add_argument("--strict", action="store_true", help="refuse if anything is skipped or untouched")
    verb.add_argument("--names", choices=SCHEMES, help="how the module names its layers (default: as it looks)")
    verb.add_argument(
        "--flatten",
        action="append",
        default=[],
        metavar="LAYER=HxWxC",
        help="the map that a Dense layer's Flatten takes",
    )
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run_plan)

    verb = verbs.add_parser("convert", help="write a .safetensors or .pt file")
    verb.add_argument("source", metavar="SRC")
    verb.add_argument("destination", metavar="DST", help="ends in .safetensors, .pt or .pth")
    verb.add_argument("--to", choices=SCHEMES, default="keras", help="whose layer names (default: keras)")
    verb.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="GLOB",
        help="layers or weights to leave out; again for more",
    )
    verb.add_argument(
        "--flatten",
        action="append",
        default=[],
        metavar="LAYER=HxWxC",
        help="the map that a Dense layer's Flatten takes",
    )
    verb.set_defaults(run=run_convert)
    return top


def run_inspect(options: argparse.Namespace) -> None:
    source = read(options.file)
    described = describe(source)
    if options.json:
        print(json.dumps(described, indent=2))
        return
    for name in ("file", "format", "keras_version", "backend", "tensors", "parameters"):
        if described[name] is not None:
            print(f"{name.replace('_', ' '):15}{described[name]}")
    print(f"{'preprocessing':15}{source.preprocessing or 'not known'}\n")
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
    print("\n".join(table([("layer", "class", "weight", "shape", "type"), *rows])))


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
    }


def run_plan(options: argparse.Namespace) -> None:
    plan = match(
        read(options.file),
        build(options.into),
        prefix=options.prefix,
        rename=[pair(text, "rename", "OLD=NEW") for text in options.rename],
        skip=options.skip,
        strict=options.strict,
        names=options.names,
        flatten=dict(flattened(text) for text in options.flatten),
    )
    print(json.dumps(plan.to_dict(), indent=2) if options.json else plan)


def run_convert(options: argparse.Namespace) -> None:
    flatten = dict(flattened(text) for text in options.flatten)
    done = convert(options.source, options.destination, to=options.to, skip=options.skip, flatten=flatten)
    for key, reason in done.skipped.items():
        print(f"skipped {key}: {reason}")
    for key, (name, transform) in done.converted.items():
        if transform.unflatten:
            print(f"{key} -> {name}: {transform}")
    print(f"{len(done.converted)} tensors -> {done.path}")


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """An option of the form OLD=NEW."""
    old, equals, new = text.partition("=")
    if not (old and equals):
        raise BridgeError(f"--{option} {text!r} is not of the form {form}.")
    return old, new


def flattened(text: str) -> tuple[str, tuple[int, ...] | None]:
    """An option of the form LAYER=HxWxC, or LAYER=none."""
    layer, map_ = pair(text, "flatten", "LAYER=HxWxC")
    if map_ == "none":
        return layer, None
    sizes = map_.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise BridgeError(f"--flatten {text!r} is not of the form LAYER=HxWxC.")
    return layer, tuple(int(size) for size in sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()  # here, where a reader that went away is no error
    except BridgeError as error:
        print(f"bridge: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as with | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def printable(text: str) -> str:
    """One line, without control characters that a file's names may hold."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


if __name__ == "__main__":
    sys.exit(main())
