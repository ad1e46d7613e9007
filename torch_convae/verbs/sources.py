"""SOURCE on the command line, a run's folder, a model's name or a weights file, as a network that is ready."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from ..load import load, load_model
from ..models import MODELS, Model, create
from ..models.preprocessing import MODES, Preprocess
from ..models.sizes import sides
from ..training import device
from ..weights import load_weights, recorded_options
from .inputs import Item, items, sequences
from .known import recognise
from .rasters import LARGEST, read_frames, read_pixels

WORDS = {"true": "True", "false": "False"}  # as Python has them
ORDER = (
    "does not say in which order its layers compute: convolution, BatchNorm, ReLU is taken. "
    "--option order=conv-relu-bn is the other, DeepNetsForEO's."
)
FRAMES = 8  # of a sequence whose length nobody says


@dataclass(frozen=True)
class Source:
    """A network with its weights, in evaluation mode, and what it is, for people.

    `note` is what to say of its weights once the call is accepted; `size` is that of the images it is built for,
    where it takes no other; `untouched` are the parameters that the weights given for it have nothing for.
    """

    model: Model
    what: str
    note: str = ""
    size: tuple[int, int] | None = None
    untouched: tuple[str, ...] = ()

    def refuse_untouched(self, needed: Callable[[str], bool] = lambda _: True) -> None:
        """Refuse to answer with random numbers where weights were given, but none for the layers that are `needed`."""
        paths = dict.fromkeys(name.rpartition(".")[0] for name in self.untouched)
        if missing := [path for path in paths if needed(path)]:
            more = f" and {len(missing) - 1} more layers" if len(missing) > 1 else ""
            raise ConvaeError(
                f"{self.what} has no weights for {missing[0]}{more}, whose random numbers would answer. Give a file "
                "that holds them, or train them: python -m torch_convae.train --list."
            )

    def announce(self) -> None:
        """Say on stderr what there is to say of the weights."""
        if self.note:
            print(self.note, file=sys.stderr)

    @contextmanager
    def sized(self) -> Iterator[None]:
        """What is refused within, of a network that takes one size alone, names that size."""
        try:
            yield
        except ConvaeError as error:
            if self.size is None:
                raise
            raise ConvaeError(f"{error} It is built for {self.size[0]} x {self.size[1]}.") from error


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """How a network is named on the command line."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a run's folder, the name of a model (with --weights), or a weights file of a known network",
    )
    parser.add_argument("--weights", metavar="FILE", help="a Keras or PyTorch weights file for the model, by name")
    parser.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an option of the model, as classes=7; may be given again",
    )
    parser.add_argument(
        "--preprocessing",
        choices=sorted(MODES),
        help="how images are prepared, by Keras's names (default: as the run or the weights say)",
    )
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1")


def source(options: argparse.Namespace) -> Source:
    """The network that these flags name; what cannot be is refused, and what is left out is in its note."""
    found = _found(options.source, options.weights, _pairs(options.option))
    if options.preprocessing:
        found.model.preprocessing = Preprocess(options.preprocessing)
    found.model.to(device(options.device)).eval()
    torch.backends.cudnn.allow_tf32 = False  # what CUDA's convolutions use by default keeps three digits
    return found


def channels(model: nn.Module) -> int:
    """How many channels the images have that a network takes."""
    return next((parameter.shape[1] for parameter in model.parameters() if parameter.ndim == 4), 1)


def input_shape(model: nn.Module, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one input of a network, for images of this height and width; a sequence has a few of them."""
    image = (channels(model), *size)
    return (FRAMES, *image) if takes_sequences(model) else image


def takes_sequences(model: nn.Module) -> bool:
    """Whether an input is a sequence of frames (T, C, H, W), and no image."""
    return str(getattr(model, "AXES", "")).count(",") == 4


def inputs_of(model: nn.Module, arguments: Sequence[str]) -> list[Item]:
    """The images, or the sequences, that are named for a network."""
    return sequences(arguments) if takes_sequences(model) else items(arguments)


def read_input(model: nn.Module, item: Item, size: tuple[int, int] | None, largest: int = LARGEST) -> Tensor:
    """An image uint8 (C, H, W), or a sequence uint8 (T, C, H, W), as the network takes it but for its preprocessing."""
    read = read_frames if takes_sequences(model) else read_pixels
    return read(item.path, channels(model), size, largest)


def _found(name: str, weights: str | None, options: dict[str, Any]) -> Source:
    path = Path(name)
    if name in MODELS and not ((path / "model.safetensors").is_file() and weights is None and not options):
        return _named(name, weights, options)
    if not path.exists():
        near = get_close_matches(name, MODELS, n=3) or list(MODELS)
        raise ConvaeError(
            f"{name} is no run's folder, no weights file and no model; the nearest models are {', '.join(near)}."
        )
    a_run = path.is_dir() or bool(recorded_options(path))
    for flag, given in (("--weights", weights), ("--option", options if a_run else None)):
        if given:
            raise ConvaeError(f"{name} has weights and options of its own; leave {flag} out.")
    if path.is_dir():
        return Source(load(path), f"the run {name}")
    if a_run:
        return Source(load_model(path), f"the run's network {name}")
    known, found = recognise(path)
    return _named(known, name, {**found, **options})


def _named(name: str, weights: str | None, options: dict[str, Any]) -> Source:
    if weights is not None and not options:
        with suppress(ConvaeError):  # the file may hold more, or less, than the model: the load will tell
            options = recognise(Path(weights), name)[1]
    _refuse_missing(name, options)
    model = create(name, **options)
    written = name + (f"({', '.join(f'{option}={value!r}' for option, value in options.items())})" if options else "")
    size = _own_size(model, name, options)
    if weights is None:
        note = f"{name} has random weights, as no --weights were given."
        return Source(model, f"{written} with random weights", note, size)
    plan = load_weights(model, Path(weights))
    note = f"{weights}: {str(plan).split(chr(10), 1)[0]}" if plan.skipped or plan.untouched else ""
    if "order" in inspect.signature(MODELS[name]).parameters and "order" not in options:
        note = f"{note}\n{weights} {ORDER}".lstrip()
    return Source(model, f"{written} with {weights}", note, size, tuple(plan.untouched))


def _own_size(model: nn.Module, name: str, options: dict[str, Any]) -> tuple[int, int] | None:
    """The size that a network with a Dense layer on a map was created for; None for one without."""
    if not any(hasattr(layer, "keras_flattened") for layer in model.modules()):
        return None
    return sides(options.get("size", inspect.signature(MODELS[name]).parameters["size"].default))


def _refuse_missing(name: str, options: dict[str, Any]) -> None:
    for option, what in inspect.signature(MODELS[name]).parameters.items():
        if what.default is what.empty and option not in options:
            raise ConvaeError(f"{name} needs {option}. Give it with --option {option}=NUMBER.")


def _pairs(given: list[str]) -> dict[str, Any]:
    """Options as NAME=VALUE, where a value is a number, true or false, a tuple, or else text."""
    options: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise ConvaeError(f"--option {pair!r} is not NAME=VALUE. Write it as classes=7.")
        try:
            options[name] = ast.literal_eval(WORDS.get(value.lower(), value))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            options[name] = value
    return options
