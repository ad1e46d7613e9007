"""What a network computes on its way, by the names that Keras and PyTorch give it."""

from .layer import Layer, find, layers
from .steps import Step, capture, watched
from .trace import output_shape

__all__ = ["Layer", "Step", "capture", "find", "layers", "output_shape", "watched"]
