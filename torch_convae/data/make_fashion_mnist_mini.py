"""Builds the embedded sample of Fashion-MNIST from the four raw files; the same input gives the same content.

python -m torch_convae.data.make_fashion_mnist_mini RAW_FOLDER [OUT_FOLDER]
"""

import argparse
import gzip
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ConvaeError
from .dataset import FASHION_MNIST_CLASSES
from .idx import idx_bytes, read_idx
from .idx_set import find_idx
from .selection import by_class

SEED = 2017
PER_CLASS = {"train": 500, "t10k": 100}
PACKAGED = Path(__file__).parent / "fashion_mnist_mini"


def sample(targets: npt.NDArray[np.uint8], per_class: int) -> list[int]:
    """Positions of `per_class` images of each class, drawn with the fixed seed, in the raw file's order."""
    draw = random.Random(SEED)
    members = by_class(targets.tolist())
    if len(members) != len(FASHION_MNIST_CLASSES) or min(map(len, members.values())) < per_class:
        raise ConvaeError(
            f"The labels hold fewer than {per_class} images of one of {len(FASHION_MNIST_CLASSES)} classes, "
            "or other classes; give the raw files of the whole Fashion-MNIST."
        )
    return sorted(position for positions in members.values() for position in draw.sample(positions, per_class))


def make(raw: Path, out: Path) -> list[Path]:
    """Write the four `.gz` files into the folder and give their paths."""
    files = find_idx(raw)
    if files is None:
        raise ConvaeError(f"{raw} holds no IDX files; give the folder of the raw files of Fashion-MNIST.")
    sources = {
        "train": (files.train_images, files.train_labels),
        "t10k": (files.test_images, files.test_labels),
    }
    arrays = {}
    for prefix, (images, labels) in sources.items():
        pixels, targets = read_idx(images, 3), read_idx(labels, 1)
        kept = sample(targets, PER_CLASS[prefix])
        arrays[f"{prefix}-images-idx3-ubyte.gz"] = pixels[kept]
        arrays[f"{prefix}-labels-idx1-ubyte.gz"] = targets[kept]
    try:
        return _write(arrays, out)
    except OSError as problem:
        raise ConvaeError(f"{out} cannot be written ({problem.strerror}); give another folder.") from problem


def _write(arrays: Mapping[str, npt.NDArray[np.uint8]], out: Path) -> list[Path]:
    """Pack without time and file name, and rename each file into place, so that no half a file is ever seen."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".half-") as work:
        for name, array in arrays.items():
            (Path(work) / name).write_bytes(gzip.compress(idx_bytes(array), compresslevel=9, mtime=0))
        return [(Path(work) / name).replace(out / name) for name in arrays]


def main() -> int:
    """The command line: prints what was written, or the one line that says what is wrong."""
    parser = argparse.ArgumentParser(description="Build the embedded sample of Fashion-MNIST.")
    parser.add_argument("raw", type=Path, help="folder with the four IDX files of Fashion-MNIST")
    parser.add_argument("out", type=Path, nargs="?", default=PACKAGED, help="where to write (default: the package)")
    options = parser.parse_args()
    try:
        for path in make(options.raw, options.out):
            print(f"{path} {path.stat().st_size} bytes")
    except ConvaeError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
