"""Stages as data and one loop: frozen is frozen, and a run goes on where it stopped."""

from .folder import Folder, locked
from .interrupt import Interrupted, graceful
from .loop import Diverged, Phase, Splits, Trainer, evaluate
from .metrics import class_iou
from .run import LAYOUTS, PRECISIONS, Run, device
from .stages import Stage, freeze_all_but, frozen_hash, train_mode
from .tasks import Task, classification, reconstruction, segmentation

__all__ = [
    "LAYOUTS",
    "PRECISIONS",
    "Diverged",
    "Folder",
    "Interrupted",
    "Phase",
    "Run",
    "Splits",
    "Stage",
    "Task",
    "Trainer",
    "class_iou",
    "classification",
    "device",
    "evaluate",
    "freeze_all_but",
    "frozen_hash",
    "graceful",
    "locked",
    "reconstruction",
    "segmentation",
    "train_mode",
]
