"""What a user may ask for: which data, at what size, how much of it."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConvaeError


@dataclass(frozen=True)
class Request:
    """One of `NAMES` or a folder, and how to load it.

    `root` is where the named sets lie or are downloaded to. `size` is (height, width).
    `limit` is the most images a split may keep: as even as possible over the classes, or evenly spread over
    the sorted masks, whatever the seed. `seed` decides which images are held out where the data has no test
    split. `void` is the mask value of pixels without a class. With `workers` the images are not held in
    memory but read from their files while they are used, by so many processes.
    """

    data: str
    root: Path | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None
    seed: int = 0
    void: int | None = None
    workers: int | None = None


def check_request(request: Request) -> None:
    """Refuse values that no data could satisfy, before any file is opened."""
    if not request.data.strip():
        raise ConvaeError("The data has no name; give a folder, or a name such as 'fashion-mnist-mini'.")
    if request.size is not None and (len(request.size) != 2 or min(request.size) < 1):
        raise ConvaeError(f"size {request.size} must be a height and a width of at least 1; give e.g. 96 128.")
    if request.limit is not None and request.limit < 1:
        raise ConvaeError(f"limit {request.limit} leaves no image; give at least 1, or leave --limit out.")
    if request.workers is not None and request.workers < 0:
        raise ConvaeError(f"workers {request.workers} is no number of processes; give 0 or more.")
    if request.void is not None and not 0 <= request.void <= 255:
        raise ConvaeError(f"void {request.void} is no mask value; give one of 0 to 255.")


def refuse_void(request: Request) -> None:
    """A void index for data without masks is a mistake, not something to ignore."""
    if request.void is not None:
        raise ConvaeError(f"{request.data} has a class for each image, no masks; leave --void {request.void} out.")


def refuse_workers(request: Request) -> None:
    """Processes that read image files have nothing to do for data that is held in memory."""
    if request.workers is not None:
        raise ConvaeError(f"{request.data} is held in memory; leave --workers {request.workers} out.")


def from_home(path: Path) -> Path:
    """The path with a leading ~ spelt out; the home of a user who is not there is refused."""
    try:
        return path.expanduser()
    except RuntimeError as problem:
        raise ConvaeError(f"{path} begins with a home that is not known; give the whole path.") from problem
