"""Data as bytes, in memory or read from files while used: named sets, folders of classes, images with masks."""

from .augment import Augmentation, augmentation
from .batches import batch_indices
from .dataset import VOID, DataSet, Split
from .load import load_data
from .named import NAMES
from .regroup import part, regrouped
from .request import Request
from .streaming import FileSplit

__all__ = [
    "NAMES",
    "VOID",
    "Augmentation",
    "DataSet",
    "FileSplit",
    "Request",
    "Split",
    "augmentation",
    "batch_indices",
    "load_data",
    "part",
    "regrouped",
]
