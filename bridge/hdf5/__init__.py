"""HDF5 files as plain values, read in a process of their own: what they hold, and each data set's numbers."""

from .file import LARGEST, File, open_file
from .opening import bytes_of, regular
from .reading import most_unpacked, refuse_more
from .tree import Dataset, Group, Value, listed, shown

__all__ = [
    "LARGEST",
    "Dataset",
    "File",
    "Group",
    "Value",
    "bytes_of",
    "listed",
    "most_unpacked",
    "open_file",
    "refuse_more",
    "regular",
    "shown",
]
