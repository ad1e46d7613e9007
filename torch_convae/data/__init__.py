"""Data as bytes in memory: an embedded set, downloads, folders of classes, folders of images with masks."""

from .batches import batch_indices, on_device
from .dataset import VOID, DataSet, Split
from .load import load_data
from .named import NAMES
from .request import Request

__all__ = ["NAMES", "VOID", "DataSet", "Request", "Split", "batch_indices", "load_data", "on_device"]
