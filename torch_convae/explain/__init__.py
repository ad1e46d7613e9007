"""Which parts of an image a class, or a class of a segmentation, is found by: as maps, and as pictures."""

from .methods import default_layer, gradcam, gradients, normalised, occlusion
from .question import Question, class_index, question

__all__ = [
    "Question",
    "class_index",
    "default_layer",
    "gradcam",
    "gradients",
    "normalised",
    "occlusion",
    "question",
]
