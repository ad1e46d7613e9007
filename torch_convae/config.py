"""Frozen dataclasses = flags = the run's config.json."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from .errors import ConvaeError, one_line
from .training import LAYOUTS, MODES, PRECISIONS

STATES = ("fresh", "kept")


def _flag(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True)
class Config:
    """What `python -m torch_convae.train` can be told. None leaves a choice to the recipe."""

    recipe: str = _flag("convae", "which training (see --list)", positional=True)
    data: str | None = _flag(None, "a named data set, or a folder: of classes, of images and masks, of IDX files")
    data_root: str | None = _flag(None, "where named data sets lie or are downloaded to")
    void: int | None = _flag(None, "mask value that counts for nothing (default: classes.txt, else 255)", type=int)
    size: str | None = _flag(None, "image height and width, as 128 or 96x128 (default: as they are)")
    limit: int | None = _flag(None, "at most so many images a split", type=int)
    weights: str | None = _flag(None, "a Keras or PyTorch weights file to start from, or a run, matched by name")
    out: str | None = _flag(None, "the run's folder (default: runs/RECIPE)")
    fresh: bool = _flag(False, "start over instead of going on where the run stopped", action="store_true")
    dry_run: bool = _flag(
        False, "say what would happen, and what memory it would take; write nothing", action="store_true"
    )
    epochs: str | None = _flag(None, "for every stage, or one number a stage: 2,5,3; 0 leaves a stage out")
    lr: str | None = _flag(None, "learning rate for every stage, or one a stage: 1e-3,1e-3,1e-4")
    weight_decay: str | None = _flag(None, "pull of the weights to zero, for every stage or one a stage: 0,5e-4,5e-4")
    loss: str | None = _flag(None, "cross-entropy, focal, dice or jaccard over the classes, or a sum: focal+dice")
    class_weights: str | None = _flag(
        None, "how much each class counts in the loss: none, median, published, or 1,2.5,.."
    )
    classes: str | None = _flag(None, "new classes from those of --weights: new=old+old,other=old, or a file of them")
    dropout: float | None = _flag(None, "share of the values that the network's Dropout leaves out", type=float)
    augment: str | None = _flag(None, "none, or some of flip,vflip,turn,scale,crop,colour, drawn for each image")
    workers: int | None = _flag(None, "read image files while training, by so many processes", type=int)
    batch_size: int | None = _flag(None, "images a step", type=int)
    seed: int = _flag(0, "of initial weights and order; the same seed gives the same bits on CPU", type=int)
    device: str = _flag("auto", "auto, cpu, cuda, cuda:1")
    precision: str = _flag("float32", "bfloat16 computes in mixed precision", choices=PRECISIONS)
    layout: str | None = _flag(None, "how images lie in memory (default: what was measured faster)", choices=LAYOUTS)
    accumulate: int = _flag(1, "compute each step's batch in so many parts: the same step in less memory", type=int)
    deterministic: bool = _flag(False, "the same bits on CUDA, too, at some cost of speed", action="store_true")
    release: str | None = _flag(None, "in the last stage, release bit by bit: blocks, or PATTERN@EPOCH[:FACTOR],..")
    warmup: str | None = _flag(None, "steps in which the rate of what is released rises; for every stage, or one each")
    clip: str | None = _flag(None, "largest norm of a step's gradients; for every stage, or one each; 0 for none")
    optimizer_state: str | None = _flag(None, "of the optimizer, when a stage begins or releases more", choices=STATES)
    guard: str = _flag("rollback", "when the loss jumps: go back and on more slowly, once; or only this", choices=MODES)
    cache: str = _flag(
        "auto", "features of a frozen encoder: auto, off, or N views of each image; with the memory: auto:500MiB"
    )
    ema: float = _flag(0.0, "measure and keep averaged weights, of this decay a step, as 0.999", type=float)
    best: str | None = _flag(None, "end each stage with the weights of its best epoch by a figure, as val_accuracy")
    patience: int | None = _flag(None, "end a stage after so many epochs without a better figure of --best", type=int)
    tensorboard: bool = _flag(False, "write the figures for TensorBoard, too", action="store_true")
    recompute: bool = _flag(
        False, "keep no activations within a block, and compute them again: less memory, more time", action="store_true"
    )
    parallel: str | None = _flag(
        None, "under torchrun: batch statistics over all processes (sync-batch-norm), a part of each layer each (shard)"
    )
    compile: bool = _flag(False, "compile the model with torch.compile, in place", action="store_true")


METAVARS = {
    "data": "NAME|FOLDER",
    "data_root": "FOLDER",
    "out": "FOLDER",
    "weights": "FILE|RUN",
    "size": "HxW",
    "lr": "RATE,..",
    "epochs": "N,..",
    "weight_decay": "RATE,..",
    "loss": "NAME",
    "class_weights": "HOW",
    "classes": "NEW=OLD,..",
    "dropout": "SHARE",
    "augment": "NAME,..",
    "device": "DEVICE",
    "best": "FIGURE",
    "ema": "DECAY",
    "release": "GROUPS",
    "warmup": "STEPS,..",
    "clip": "NORM,..",
    "cache": "MODE[:SIZE]",
    "parallel": "HOW,..",
}

# A run that goes on may find its data elsewhere, read it in another way, or compute on another device; all else is
# what it is.
FREE = frozenset({"out", "fresh", "device", "data_root", "workers", "dry_run", "tensorboard"})


class Parser(argparse.ArgumentParser):
    """One line for a wrong call, as for any other error."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}. See {self.prog} --help.\n")


def add_flags(parser: argparse.ArgumentParser, recipes: Sequence[str]) -> None:
    """A flag for every field of `Config`."""
    for one in fields(Config):
        options = {key: value for key, value in one.metadata.items() if key != "positional"}
        if one.metadata.get("positional"):
            # No `choices`: argparse would take the value of a misspelt flag for a recipe, and complain of that.
            options["metavar"] = f"{{{','.join(recipes)}}}"
            parser.add_argument(one.name, nargs="?", default=one.default, **options)
        else:
            if not options.keys() & {"action", "choices"}:
                options["metavar"] = METAVARS.get(one.name, "N")
            parser.add_argument(f"--{one.name.replace('_', '-')}", default=one.default, **options)


def check(config: Config) -> None:
    """Refuse values that no run could use, before any file is touched."""
    for one in fields(Config):
        if getattr(config, one.name) == "":  # an unset variable of a shell, not a wish for the default
            raise ConvaeError(f"--{one.name.replace('_', '-')} is empty. Give it a value, or leave it out.")
    if config.batch_size is not None and config.batch_size < 1:
        raise ConvaeError(f"--batch-size {config.batch_size} is not a number of images. Give at least 1.")
    if config.accumulate < 1:
        raise ConvaeError(f"--accumulate {config.accumulate} is not a number of parts. Give at least 1.")
    if config.dropout is not None and not 0 <= config.dropout < 1:
        raise ConvaeError(f"--dropout {config.dropout:g} is not a share. Give at least 0 and less than 1.")
    parse_cache(config.cache)
    if not 0 <= config.ema < 1:
        raise ConvaeError(f"--ema {config.ema:g} is not a decay. Give one between 0 and 1, as 0.999.")
    if config.patience is not None and config.patience < 1:
        raise ConvaeError(f"--patience {config.patience} is not a number of epochs. Give at least 1.")
    _refuse_together(config)
    check_seed(config.seed)


def check_seed(seed: int) -> None:
    """Refuse what PyTorch takes for no seed."""
    if not -(2**63) <= seed < 2**64:
        raise ConvaeError(f"--seed {seed} does not fit into 64 bits. Give a smaller one.")


def _refuse_together(config: Config) -> None:
    """What works alone, but not with something else."""
    if config.compile and config.recompute:
        raise ConvaeError("--compile decides by itself what to compute again. Leave out --recompute.")
    if "shard" in parse_parallel(config.parallel):
        other = {"--compile": config.compile, "--classes": config.classes, "float16": config.precision == "float16"}
        for name in (name for name, wanted in other.items() if wanted):
            raise ConvaeError(f"--parallel shard does not go with {name}. Leave one of them out.")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "128" or "96x128" as (height, width)."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ConvaeError(f"--size {text!r} is not a size. Write 128, or 96x128 for height and width.")
    return int(sides[0]), int(sides[-1])


WAYS = ("sync-batch-norm", "shard")


def parse_parallel(text: str | None) -> frozenset[str]:
    """ "sync-batch-norm", "shard", both or nothing."""
    ways = frozenset(text.split(",") if text else ())
    if unknown := ways.difference(WAYS):
        raise ConvaeError(f"--parallel has no {min(unknown)!r}. There are {' and '.join(WAYS)}.")
    return ways


SIZES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "": 2**30}


def parse_cache(text: str) -> tuple[str, int | None]:
    """ "auto", "off" or a number of views, and the bytes of memory behind a colon: 2GiB, 500MiB; a number is GiB."""
    mode, colon, size = text.partition(":")
    if mode not in ("auto", "off") and not (mode.isdecimal() and int(mode) > 0):
        raise ConvaeError(f"--cache {text!r} is neither auto, off nor a number of views.")
    if not colon:
        return mode, None
    number = size.rstrip("KMGiB")
    try:
        count = float(number) * SIZES[size.removeprefix(number)]
    except (ValueError, KeyError):
        count = -1
    if not 0 <= count < 2**63:
        raise ConvaeError(f"--cache {text!r} does not end with a size of memory. Write auto:2GiB or auto:500MiB.")
    return mode, int(count)


def per_stage(option: str, text: str | None, defaults: Sequence[float]) -> list[float]:
    """One number for every stage, from one for all, one for each, or the recipe's own."""
    if text is None:
        return list(defaults)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConvaeError(f"--{option} {text!r} is not a list of numbers. Write one, or {len(defaults)}.") from error
    if len(values) == 1:
        values *= len(defaults)
    if len(values) != len(defaults) or not all(0 <= value < math.inf for value in values):
        raise ConvaeError(
            f"--{option} {text!r} should hold one positive number, or one for each of {len(defaults)} stages."
        )
    return values
