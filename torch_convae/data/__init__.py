"""Data as bytes in memory: an embedded set, downloads, folders of classes, folders of images with masks."""

from torch_convae.data.batches import batch_indices, on_device
from torch_convae.data.dataset import VOID, DataSet, Split
from torch_convae.data.load import load_data
from torch_convae.data.named import NAMES
from torch_convae.data.request import Request

__all__ = ["NAMES", "VOID", "DataSet", "Request", "Split", "batch_indices", "load_data", "on_device"]
