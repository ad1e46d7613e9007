"""Convolutional encoders under their Keras names, and training that moves them to a new task."""

from .errors import ConvaeError
from .features import features
from .load import load
from .models import MODELS, Model, create
from .weights import VERSION

__version__ = VERSION

__all__ = ["MODELS", "ConvaeError", "Model", "__version__", "create", "features", "load"]
