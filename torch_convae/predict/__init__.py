"""What a trained network says of files: classes, masks, reconstructions, values; for large images by windows."""

from .answers import Answers, Kind, kind_of
from .windows import Windows, grow, slide
from .work import Job, predict

__all__ = ["Answers", "Job", "Kind", "Windows", "grow", "kind_of", "predict", "slide"]
