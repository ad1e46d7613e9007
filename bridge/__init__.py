"""Keras and torchvision weights into any nn.Module, by name, exactly: read, plan, load, convert."""

from .apply import load
from .convert import convert
from .errors import BridgeError
from .formats import read
from .match import match
from .plan import Copy, Plan
from .preprocessing import Preprocessing
from .source import Source
from .version import VERSION

__version__ = VERSION

__all__ = [
    "BridgeError",
    "Copy",
    "Plan",
    "Preprocessing",
    "Source",
    "__version__",
    "convert",
    "load",
    "match",
    "read",
]
