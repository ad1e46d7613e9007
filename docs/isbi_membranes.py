"""python docs/isbi_membranes.py split SOURCE OUT | score PREDICTED TRUTH: cells between membranes of ISBI 2012.

`split` makes a data set of the 30 images in SOURCE/images and their masks (0 for membrane, 255 for cell) in
SOURCE/masks: every fifth image is for the test. `score` compares masks of class indices by pixels, and by the cells
that they separate, with the Rand score of scikit-image (pip install scikit-image): true membranes do not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import label
from skimage.metrics import adapted_rand_error

CLASSES = "membrane", "cell"


def split(source: Path, out: Path) -> None:
    """Images as they are, masks as the indices 0 and 1."""
    for place, image in enumerate(sorted((source / "images").glob("*.png"), key=lambda path: int(path.stem))):
        part = out / ("test" if place % 5 == 4 else "train")
        for folder in ("images", "masks"):
            (part / folder).mkdir(parents=True, exist_ok=True)
        (part / "images" / image.name).write_bytes(image.read_bytes())
        mask = np.asarray(Image.open(source / "masks" / image.name)) > 127
        Image.fromarray(mask.astype(np.uint8)).save(part / "masks" / image.name)
    (out / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def score(predicted: Path, truth: Path) -> None:
    """The means over all images of TRUTH."""
    pairs = [
        (np.asarray(Image.open(predicted / path.name)) == 1, np.asarray(Image.open(path)) == 1)
        for path in sorted(truth.glob("*.png"))
    ]
    accuracy = np.mean([(ours == true).mean() for ours, true in pairs])
    rand = np.mean([1 - adapted_rand_error(_cells(true), _cells(ours))[0] for ours, true in pairs])
    print(f"{len(pairs)} images: pixel accuracy {accuracy:.3f}, Rand score {rand:.3f}")


def _cells(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each cell, the pixels that touch one another at a side; 0 for membranes."""
    numbers: NDArray[np.int64] = label(mask, connectivity=1)
    return numbers


if __name__ == "__main__":
    {"split": split, "score": score}[sys.argv[1]](*map(Path, sys.argv[2:]))
