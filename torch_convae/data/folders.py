"""What lies in a user's folder: subfolders, images and splits, without what the desktop put there."""

import re
from pathlib import Path

from PIL import Image

from ..errors import ConvaeError

JUNK_NAMES = ("thumbs.db", "desktop.ini")
JUNK_SUFFIXES = (".txt", ".json", ".csv", ".md")
SPLITS = ("train", "val", "test")


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted."""
    return sorted(path for path in _visible(folder) if path.is_dir())


def image_files(folder: Path) -> list[Path]:
    """The files to decode, sorted by name.

    Left out: what is hidden, notes, desktop files, and what is no regular file, which could block a reader.
    Refused: a folder or a broken link, because images may be meant by it, any other file, and no file at all.
    """
    files = []
    for path in _visible(folder):
        if path.is_dir():
            raise ConvaeError(f"{path} is a folder where images are due; move its images up, or remove it.")
        if path.is_symlink() and not path.exists():
            raise ConvaeError(f"{path} is a link to nothing; restore the file, or remove the link.")
        if path.is_file() and not _is_junk(path):
            files.append(_image(path))
    if not files:
        raise ConvaeError(f"{folder} holds no images; put some there, or remove the folder.")
    return sorted(files)


def frames(folder: Path) -> list[Path]:
    """The files of a folder in the order of the numbers in their names, as people count: 2 is before 10."""
    return sorted(image_files(folder), key=_counted)


def _counted(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], path.name


def refuse_loose_images(folder: Path) -> None:
    """Images beside the folders of a data set belong to none of them, so they would be left out unseen."""
    for path in sorted(_visible(folder)):
        if path.is_file() and _has_image_suffix(path):
            raise ConvaeError(f"{path} lies beside folders, in none of them; move it into its folder, or remove it.")


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders `train`, `test` and `val`; `val` serves as `test` where there is no `test`.

    Empty where the folder has no splits: a `train` that holds images itself is a class of that name.
    """
    if not (folder / "train").is_dir() or not subfolders(folder / "train"):
        return {}
    found = {path.name: path for path in subfolders(folder)}
    unknown = sorted(found.keys() - set(SPLITS))
    if unknown:
        raise ConvaeError(f"{folder / unknown[0]} lies beside train; call it val or test, or move it away.")
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    return {name: found[name] for name in SPLITS if name in found}


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as problem:
        raise ConvaeError(f"{folder} cannot be listed ({problem.strerror}); check its permissions.") from problem


def _image(path: Path) -> Path:
    if not _has_image_suffix(path):
        raise ConvaeError(f"{path} has no ending of an image; convert it to PNG or JPEG, or remove it.")
    return path


def _has_image_suffix(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions()


def _is_junk(path: Path) -> bool:
    return path.name.lower() in JUNK_NAMES or path.suffix.lower() in JUNK_SUFFIXES
