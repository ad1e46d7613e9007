"""python -m torch_convae.train [RECIPE]: stages of training in a folder that can be gone on with."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import pictures, tensorboard
from .config import FREE, Config, Parser, add_flags, check, parse_cache, parse_parallel, parse_size
from .data import DataSet, Request, batch_indices, load_data
from .data.streaming import READER_IS_GONE
from .errors import ConvaeError, one_line
from .files import read_json, write_json
from .outline import Outline, introduction, outline, rehearse
from .recipes import RECIPES, Built, Recipe, build, listing, weights_file
from .regrouping import before, calibrate, stage_figures
from .staging import staged
from .training import (
    MADE,
    Caching,
    Diverged,
    Folder,
    Interrupted,
    Lost,
    Phase,
    Run,
    Splits,
    Stop,
    Trainer,
    asked_for,
    complain,
    compute_deterministically,
    device,
    fingerprint_of_path,
    graceful,
    hush,
    locked,
    of_each_class,
    ranks,
    refuse_recurrent,
    refuse_single_values,
    seed_all,
    set_weights,
    twins,
    whole_weights_of,
)
from .verbs import command
from .weights import save_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0 when complete, 1 when the loss diverged, 2 for bad input, 128 + signal when stopped."""
    hush()
    return command.ended("train", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = vars(parser().parse_args(arguments))
    if options.pop("list"):
        print(listing(RECIPES))
        return 0
    again = "the same command without --fresh" if options["fresh"] else "the same command"
    try:
        with graceful() as stop:
            train(Config(**options), stop)
    except ConvaeError as error:
        return _failed(str(error), 2)
    except Diverged as error:
        return _failed(str(error), 1)
    except Interrupted as stopped:
        return _failed(f"{stopped}; {again} goes on from here", 128 + stopped.signal)
    except Lost as error:
        return _failed(f"{error}; {again} goes on from what was saved", 1, everyone=True)
    except RuntimeError as error:
        if not str(error).startswith(READER_IS_GONE):
            raise
        text = "a process that reads images has ended, for want of memory perhaps: fewer --workers take less"
        return _failed(f"{text}; {again} goes on from what was saved", 1, everyone=True)
    except KeyboardInterrupt:  # before training, after it, or a second Ctrl-C
        return _failed(f"stopped at once; {again} goes on from what was saved", 130)
    return 0


def _failed(text: str, code: int, everyone: bool = False) -> int:
    complain(f"torch_convae.train: {one_line(text)}", everyone)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line: one flag for each field of `Config`."""
    made = Parser(
        prog="python -m torch_convae.train",
        usage="%(prog)s [RECIPE] [options]",
        formatter_class=partial(argparse.HelpFormatter, width=100, max_help_position=30),
        description="Train a recipe in stages. The same command again goes on where the run stopped.",
    )
    add_flags(made, [name for name in RECIPES if ":" not in name])
    made.add_argument("--list", action="store_true", help="explain the recipes and leave")
    return made


def train(config: Config, stop: Stop) -> dict[str, Any]:
    """Train as configured, or go on; what summary.json says."""
    check(config)
    if config.tensorboard:
        tensorboard.require()
    if config.deterministic:
        compute_deterministically()
    if config.recipe not in RECIPES:
        raise ConvaeError(
            f"There is no recipe {config.recipe!r}. There are {', '.join(RECIPES)}; --list explains them."
        )
    _refuse_own_weights(config)
    recipe = RECIPES[config.recipe]
    where, ways = device(config.device), parse_parallel(config.parallel)
    with ranks(where.type == "cuda") as processes, ExitStack() as stack:
        run = Run(
            where,
            config.precision,
            config.layout or recipe.layout,
            config.compile,
            config.accumulate,
            config.recompute,
            "sync-batch-norm" in ways,
            "shard" in ways and processes.count > 1,
            processes,
        )
        if config.dry_run:
            data, built, splits = processes.together(_built, config, recipe, run)
            whole = replace(run, shards=False)  # what is estimated is a network that is not cut
            rehearse(config, whole, data, built, splits)
            return {}
        folder = processes.once(stack.enter_context, locked(_out(config)))
        data, built, splits = processes.together(_built, config, recipe, run)
        keep = {key: value for key, value in asdict(config).items() if key not in FREE}
        processes.once(folder.begin, keep, config.fresh)
        if processes.once(folder.summary.exists):
            summary = processes.once(read_json, folder.summary)
            print(f"{folder.path} is complete; --fresh starts over.")
        else:
            print(introduction(config, run, data))
            planned = outline(config, run, data, built, splits)
            processes.once(_keep, folder, planned, built)
            summary = _train(config, run, data, built, folder, splits, stop)
        print(
            json.dumps({name: value for name, value in summary.items() if name.startswith("test_")}), "in", folder.path
        )
        return summary


def _built(config: Config, recipe: Recipe, run: Run) -> tuple[DataSet, Built, Splits]:
    data = _data(config, recipe)
    seed_all(config.seed)
    built = build(recipe, config, data)
    built = replace(built, phases=staged(built.phases, recipe.stages, config))
    for phase in built.phases if run.shards else ():
        refuse_recurrent(phase.model)
    data = built.regrouping.data if built.regrouping else data
    splits = _splits(config, run, data, built)
    built = replace(built, wanted=asked_for(config.best, config.patience, built.phases, splits.watched))
    refuse_single_values(run, splits, built.phases)
    return data, built, splits


def _data(config: Config, recipe: Recipe) -> DataSet:
    if not (config.data or recipe.data):
        raise ConvaeError(f"{config.recipe} needs --data, a folder with train/images and train/masks.")
    root = Path(config.data_root) if config.data_root else None
    size = parse_size(config.size or recipe.size)
    name = config.data or recipe.data or ""
    try:
        return load_data(Request(name, root, size, config.limit, config.seed, config.void, config.workers))
    except ConvaeError as error:
        if _out(config).resolve().is_relative_to(Path(name).resolve()):
            raise ConvaeError(f"{_out(config)} lies inside the data, {name}. Name another --out.") from error
        raise


def _out(config: Config) -> Path:
    return Path(config.out or f"runs/{config.recipe.replace(':', '-')}")


def _refuse_own_weights(config: Config) -> None:
    """Refuse a run that would begin from files that it is going to replace."""
    weights = weights_file(config.weights) if config.weights else None
    if weights and weights.name in MADE and weights.resolve().parent == _out(config).resolve():
        raise ConvaeError(f"--weights {config.weights} is of the run in {_out(config)}. Name another --out.")


def _keep(folder: Folder, planned: Outline, built: Built) -> None:
    write_json(folder.path / "outline.json", planned)
    if built.plan:
        print(str(built.plan).split("\n", 1)[0])
        write_json(folder.path / "weights.json", built.plan.to_dict())


def _train(
    config: Config, run: Run, data: DataSet, built: Built, folder: Folder, splits: Splits, stop: Stop
) -> dict[str, Any]:
    started = time.perf_counter()
    weights = fingerprint_of_path(weights_file(config.weights)) if config.weights else None
    caching = Caching(*parse_cache(config.cache))

    regrouped = _before(built, run)
    trained = _in_shards(built) if run.shards else built

    def finished(phase: Phase, counts: Tensor | None) -> None:
        if run.shards:  # what one process draws and saves is whole, in the host's memory
            set_weights(built.models, whole_weights_of(trained.models))
        plain = next(each for each in built.phases if each.stage == phase.stage)
        run.ranks.once(_draw, folder, plain, data, run.alone, counts)

    trainer = Trainer(
        run,
        splits,
        folder,
        trained.models,
        stop,
        finished=finished,
        guard=config.guard,
        caching=caching,
        weights=weights,
        wanted=built.wanted,
        ema=config.ema,
    )
    if config.tensorboard:
        trainer.logged = tensorboard.writer(folder.path)
    results = trainer.train(trained.phases)
    last = next(reversed(results.values()))
    summary = {
        "recipe": config.recipe,
        "data": data.name,
        "classes": list(data.classes),
        "model": built.name,
        "stages": results,
        **{name: value for name, value in last.items() if name.startswith(("test_", "val_"))},
        "seconds": round(time.perf_counter() - started, 1),
        "device": str(run.device),
        "torch": torch.__version__,
    }
    if built.regrouping:
        regrouped |= stage_figures(results)
        regrouped["calibration"] = calibrate(built.regrouping, built.phases[-1], run)
        summary["regrouped"] = {"groups": built.regrouping.groups, **regrouped}
    run.ranks.once(_finish, folder, built, _header(config, built, data), summary)
    return summary


def _in_shards(built: Built) -> Built:
    models, phases = twins(built.models, built.phases)
    return replace(built, models=models, phases=phases)


def _draw(folder: Folder, phase: Phase, data: DataSet, run: Run, counts: Tensor | None) -> None:
    if counts is not None and data.task != "sequences":
        matrix = {"split": "test", "stage": phase.stage.name, "classes": list(data.classes)}
        write_json(folder.path / "confusion.json", matrix | {"counts": counts.tolist()})
    pictures.draw_phase(folder.path, phase, data, run, counts)


def _before(built: Built, run: Run) -> dict[str, Any]:
    if built.regrouping is None or built.old is None:
        return {}
    return before(built.regrouping, built.old, built.phases[-1], run)


def _finish(folder: Folder, built: Built, header: dict[str, str], summary: dict[str, Any]) -> None:
    save_model(built.final.folded(), folder.path / "model.safetensors", header)
    pictures.draw_curves(folder.path)
    if (kept := folder.path / "confusion.json").exists():
        matrix = read_json(kept)
        summary["per_class"] = of_each_class(torch.tensor(matrix["counts"]), matrix["classes"])
    write_json(folder.summary, summary)  # last: it says that the run is complete


def _splits(config: Config, run: Run, data: DataSet, built: Built) -> Splits:
    moved = {name: split.on(run.device) for name, split in data.splits.items()}
    batch_size = config.batch_size or RECIPES[config.recipe].batch_size
    count = len(moved["train"])

    def order(stage: int, epoch: int) -> Iterable[Tensor]:
        least = max(2, run.ranks.count)
        return batch_indices(count, batch_size, config.seed * 1000 + stage, epoch, least)

    return Splits(moved.pop("train"), order, moved, batch_size, built.augment)


def _header(config: Config, built: Built, data: DataSet) -> dict[str, str]:
    dropout = {} if config.dropout is None else {"dropout": json.dumps(config.dropout)}
    return dropout | {
        "model": built.name,
        "options": json.dumps(built.options),
        "preprocessing": built.final.preprocessing.mode,
        "classes": json.dumps(data.classes),
        "image_size": json.dumps(data.image_shape[-2:]),
    }


if __name__ == "__main__":
    sys.exit(main())
