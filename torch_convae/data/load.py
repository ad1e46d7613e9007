"""From a request to a data set: which reader a name or a folder calls for."""

from difflib import get_close_matches
from pathlib import Path

from ..errors import ConvaeError
from .class_folder import load_class_folder
from .dataset import DataSet
from .folders import subfolders
from .idx_set import find_idx, load_idx_folder
from .mask_folder import load_mask_folder
from .named import NAMES, load_named
from .request import Request, check_request, from_home
from .sequence_folder import load_sequence_folder

LAYOUTS = (
    "train/images + train/masks, a folder of images for each class, train/sequences + train/targets.csv, or the four "
    "IDX files of MNIST"
)


def load_data(request: Request) -> DataSet:
    """The data of one of `NAMES`, or of a folder by what it holds: IDX files, sequences, images with masks, or classes.

    A name comes before a folder of that name; write ./mnist for the folder.
    """
    check_request(request)
    try:
        return load_named(request) if request.data in NAMES else _load_folder(request)
    except OSError as problem:  # a folder without permission, a name too long, a disk that went away
        reason = f"{problem.strerror}: {problem.filename}"
        raise ConvaeError(f"{request.data} cannot be read ({reason}); check path and permissions.") from problem


def _load_folder(request: Request) -> DataSet:
    folder = _folder(request)
    files = find_idx(folder)
    if files is not None:
        return load_idx_folder(files, folder, request)
    if (folder / "train" / "sequences").is_dir():
        return load_sequence_folder(folder, request)
    if _has_masks(folder):
        return load_mask_folder(folder, request)
    return load_class_folder(folder, request)


def _folder(request: Request) -> Path:
    folder = from_home(Path(request.data))
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "is neither a folder"
        near = get_close_matches(request.data.lower(), NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(NAMES)
        raise ConvaeError(f"Data {str(folder)!r} {what} nor one of {known}{hint or '; give one of these.'}")
    if not subfolders(folder) and find_idx(folder) is None:
        raise ConvaeError(f"{folder} holds no data: put {LAYOUTS} there, or use one of {', '.join(NAMES)}.")
    return folder


def _has_masks(folder: Path) -> bool:
    """Whether `train` is meant to hold images and masks.

    A folder `images` is enough: beside `labels`, say, it is a layout to correct, never a class of that name.
    """
    if (folder / "images").is_dir():
        raise ConvaeError(f"{folder / 'images'} belongs below a split; move it and its masks into {folder / 'train'}.")
    train = folder / "train"
    names = {path.name for path in subfolders(train)} if train.is_dir() else set()
    return "images" in names or names == {"masks"}
