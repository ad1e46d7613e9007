"""What predict wrote, as values: its table, and its pictures."""

import csv
from pathlib import Path

from PIL import Image

NAMES = ("sky", "road", "tree")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def drawn(path: str | Path) -> Image.Image:
    """The picture in a file, which is closed again."""
    with Image.open(path) as image:
        return image.copy()
