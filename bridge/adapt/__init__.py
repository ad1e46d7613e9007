"""Explicit changes to weights before they are loaded: each takes a source and gives another one."""

from .class_names import read_classes
from .classes import classes
from .fold import fold_batch_norm
from .input_channels import flip_input, in_channels

__all__ = ["classes", "flip_input", "fold_batch_norm", "in_channels", "read_classes"]
