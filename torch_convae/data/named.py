"""Data sets that have a name: one inside the package, one that is generated, others fetched once by torchvision."""

import tempfile
from contextlib import ExitStack, suppress
from importlib import resources
from pathlib import Path

from ..errors import ConvaeError
from .dataset import FASHION_MNIST_CLASSES, MNIST_CLASSES, DataSet
from .idx_set import IDX_FILES, IdxFiles, find_idx, load_idx
from .moving_sprites import NAME as SPRITES
from .moving_sprites import moving_sprites
from .request import Request, from_home

EMBEDDED = "fashion-mnist-mini"
DOWNLOADED = {  # name -> its class in torchvision, its class names
    "fashion-mnist": ("FashionMNIST", FASHION_MNIST_CLASSES),
    "mnist": ("MNIST", MNIST_CLASSES),
}
NAMES = (EMBEDDED, SPRITES, *DOWNLOADED)
DEFAULT_ROOT = Path("~/.cache/torch-convae")


def load_named(request: Request) -> DataSet:
    """The data set of that name; what must be downloaded is looked for in `root` first."""
    if request.data == EMBEDDED:
        return _load_embedded(request)
    if request.data == SPRITES:
        return moving_sprites(request)
    kind, classes = DOWNLOADED[request.data]
    root = from_home(request.root or DEFAULT_ROOT)
    places = (".", "raw", f"{kind}/raw")
    files = find_idx(root, places)
    if files is None:
        _download(kind, root, request.data)
        files = find_idx(root, places)
    if files is None:
        raise ConvaeError(f"The download of {request.data} left no files in {root}; {_by_hand(root / kind / 'raw')}")
    return load_idx(files, request.data, classes, request)


def _load_embedded(request: Request) -> DataSet:
    """Read through importlib.resources, so that a zipped package works too."""
    folder = resources.files("torch_convae.data") / "fashion_mnist_mini"
    with ExitStack() as stack:
        paths = [stack.enter_context(resources.as_file(folder / f"{name}.gz")) for name in IDX_FILES]
        return load_idx(IdxFiles(*paths), EMBEDDED, FASHION_MNIST_CLASSES, request)


def _download(kind: str, root: Path, name: str) -> None:
    """Fetch into a folder beside the final one and move what is complete: an interruption leaves nothing."""
    target = root / kind / "raw"
    was_there = root.is_dir()
    try:
        import torchvision.datasets  # here, because most runs never need it and it is slow to import

        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as work:
            getattr(torchvision.datasets, kind)(work, download=True)
            _move(Path(work) / kind / "raw", target)
    except Exception as problem:  # torchvision passes on whatever its mirrors, sockets and archives raise
        if not was_there:
            with suppress(OSError):
                root.rmdir()
        reason = " ".join(str(problem).split())[:300]
        raise ConvaeError(f"{name} could not be downloaded ({reason}); {_by_hand(target)}") from problem


def _move(fetched: Path, target: Path) -> None:
    """The packed files only: one rename where nothing is there yet, else file by file."""
    for path in fetched.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetched.rename(target)
    except OSError:  # the folder is there and not empty, perhaps from a process that fetched at the same time
        for path in fetched.iterdir():
            path.replace(target / path.name)


def _by_hand(target: Path) -> str:
    return f"put {', '.join(f'{name}.gz' for name in IDX_FILES)} into {target} by hand."
