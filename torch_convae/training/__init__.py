"""Stages as data and one loop: frozen is frozen, and a run goes on where it stopped."""

from .class_weights import class_weights
from .evaluation import evaluate
from .examples import Augment, Batch, Examples, Order, Splits
from .folder import Folder, locked
from .freezing import freeze_all_but, frozen_hash, parameter_count, train_mode
from .interrupt import Interrupted, graceful
from .loop import Diverged, Trainer
from .losses import class_loss
from .memory import Memory, estimate
from .metrics import class_iou
from .phase import Phase
from .ranks import Lost, Ranks, complain, hush, ranks
from .run import LAYOUTS, PRECISIONS, Run, device
from .stages import Stage
from .tasks import Objective, Task, classification, reconstruction, segmentation

__all__ = [
    "LAYOUTS",
    "PRECISIONS",
    "Augment",
    "Batch",
    "Diverged",
    "Examples",
    "Folder",
    "Interrupted",
    "Lost",
    "Memory",
    "Objective",
    "Order",
    "Phase",
    "Ranks",
    "Run",
    "Splits",
    "Stage",
    "Task",
    "Trainer",
    "class_iou",
    "class_loss",
    "class_weights",
    "classification",
    "complain",
    "device",
    "estimate",
    "evaluate",
    "freeze_all_but",
    "frozen_hash",
    "graceful",
    "hush",
    "locked",
    "parameter_count",
    "ranks",
    "reconstruction",
    "segmentation",
    "train_mode",
]
