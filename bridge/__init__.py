"""Keras and torchvision weights into any nn.Module, by name, exactly, and back: read, plan, load, save, verify."""

from . import adapt, rnn
from .apply import load
from .convert import convert
from .errors import BridgeError
from .formats import read
from .matching.match import match
from .options import Choices
from .plan import Copy, Plan
from .preprocessing import Preprocessing
from .source import Source
from .verify import Report, verify
from .version import VERSION
from .write import save

__version__ = VERSION

__all__ = [
    "BridgeError",
    "Choices",
    "Copy",
    "Plan",
    "Preprocessing",
    "Report",
    "Source",
    "__version__",
    "adapt",
    "convert",
    "load",
    "match",
    "read",
    "rnn",
    "save",
    "verify",
]
