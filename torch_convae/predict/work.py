"""Every input through the network, batch by batch where images are small and window by window where not."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConvaeError
from ..files import write_text
from ..verbs.inputs import Failures, Item, read_all
from ..verbs.outputs import open_folder
from ..verbs.rasters import LARGEST, Raster, raster, sides
from ..verbs.sources import channels, read_input
from .answers import CLASSES, Answers, Kind
from .results import Line, Pictures, class_names, vector_line, write_pictures
from .windows import Bands, Windows, grow, slide

FAILED = "failed.txt"


@dataclass(frozen=True)
class Job:
    """What is asked of which network, and where the answers go."""

    answers: Answers
    kind: Kind
    size: tuple[int, int] | None
    windows: Windows
    folder: Path
    made: Mapping[str, str]
    batch_size: int = 8
    largest: int = LARGEST


@dataclass
class Done:
    """The lines of the table so far, and the pictures' names."""

    lines: list[Line] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)


def predict(job: Job, given: Sequence[Item]) -> tuple[list[Line], Failures]:
    """Write the answers for all inputs that can be read; those that cannot are listed, also in a file beside them.

    Where none can, nothing is written and the first is what is said.
    """
    failures, done = Failures(), Done(names=picture_names(given))
    work = _pictures if job.kind.maps else _vectors
    for batch, images in read_all(given, partial(_read, job), failures, job.batch_size):
        with failures.of(batch):
            work(job, batch, images, done, failures)
    if not done.lines:
        raise ConvaeError(failures.all_of_them())
    if not job.kind.maps:
        open_folder(job.folder, job.made)
    write_table(job.folder / f"{job.kind.name}.csv", done.lines)
    failed = job.folder / FAILED
    if failures.lines:
        write_text(failed, "".join(f"{line}\n" for line in failures.lines))
    else:
        failed.unlink(missing_ok=True)
    return done.lines, failures


def _read(job: Job, item: Item) -> Tensor:
    """The pixels of an image that is taken as a whole; nothing of one that is read by windows, or drawn larger.

    Which it is, the file's header says: nothing is decoded twice.
    """
    network = job.answers.model
    if job.kind.maps and (job.size or max(sides(item.path, channels(network))) > job.windows.side):
        return torch.empty(0, 0, 0, dtype=torch.uint8)
    return read_input(network, item, job.size, job.largest)


def _vectors(job: Job, batch: Sequence[Item], images: Tensor, done: Done, _: Failures) -> None:
    rows = job.answers.whole(images)
    names = class_names(job.answers.model, rows.shape[1])
    if job.kind != CLASSES and not job.answers.model.classes:
        names = tuple(f"value_{index}" for index in range(rows.shape[1]))
    for item, row in zip(batch, rows, strict=True):
        done.lines.append({"file": str(item.path), **vector_line(row, names, job.kind == CLASSES)})


def _pictures(job: Job, batch: Sequence[Item], images: Tensor, done: Done, failures: Failures) -> None:
    if images.numel():
        for item, pixels, answer in zip(batch, images, job.answers.pixels(images), strict=True):
            rows = pixels.permute(1, 2, 0).numpy()
            to = Pictures(job.folder, done.names[item.path], rows.shape[:2], partial(_rows_of, rows))
            _draw(job, item, to, iter([(0, answer)]), done)
        return
    for item in batch:
        with failures.of([item]), raster(item.path, channels(job.answers.model), job.largest) as image:
            to = Pictures(job.folder, done.names[item.path], (image.height, image.width), partial(_region, image))
            _draw(job, item, to, _bands(job, image), done)


def _draw(job: Job, item: Item, to: Pictures, bands: Bands, done: Done) -> None:
    """The pictures of one input; the folder is there once there is an answer to draw."""
    first = next(bands)
    if not done.lines:
        open_folder(job.folder, job.made)
    figures = write_pictures(chain([first], bands), to, job.kind, job.answers)
    done.lines.append(_line(item, to, figures))


def _bands(job: Job, image: Raster) -> Bands:
    if job.size is None:
        return slide(image, job.windows, job.answers.pixels)
    small = image.whole(job.size)
    answer = job.answers.pixels(torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))[None])[0]
    return grow(answer, (image.height, image.width))


def _rows_of(pixels: NDArray[Any], top: int, count: int) -> NDArray[Any]:
    return pixels[top : top + count]


def _region(image: Raster, top: int, count: int) -> NDArray[Any]:
    return image.region(top, 0, count, image.width)


def _line(item: Item, to: Pictures, figures: Line) -> Line:
    return {"file": str(item.path), "picture": f"{to.name}.png", "height": to.size[0], "width": to.size[1], **figures}


def picture_names(given: Sequence[Item]) -> dict[Path, str]:
    """What each input's pictures are called: its name without the ending, as long as that is no other's, too."""
    plain = Counter(_stem(item) for item in given)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    times: Counter[str] = Counter()
    for item in given:
        own = name = _stem(item) if plain[_stem(item)] == 1 else item.name
        while name in taken:
            times[own] += 1
            name = f"{own}-{times[own] + 1}"
        taken.add(name)
        names[item.path] = name
    return names


def _stem(item: Item) -> str:
    return str(Path(item.name).with_suffix(""))


def write_table(path: Path, lines: Sequence[Line]) -> None:
    """The lines as CSV."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(lines[0]))
    table.writeheader()
    table.writerows(lines)
    write_text(path, text.getvalue())
