"""Stages as data and one loop: frozen is frozen, and a run goes on where it stopped."""

from .best import Wanted, asked_for
from .caching import Caching
from .class_weights import class_weights
from .evaluation import evaluate
from .examples import Augment, Batch, Examples, Order, Splits
from .fingerprints import fingerprint_of_path
from .folder import MADE, Folder
from .freezing import freeze_all_but, frozen_hash, parameter_count, train_mode
from .guard import MODES, Diverged
from .interrupt import Interrupted, Stop, graceful
from .lock import locked
from .loop import Trainer
from .losses import class_loss
from .memory import Memory, estimate
from .metrics import class_iou, of_each_class
from .phase import Phase
from .randomness import compute_deterministically, seed_all
from .ranks import Lost, Ranks, complain, hush, ranks
from .run import LAYOUTS, PRECISIONS, Run, device
from .segments import segments_of
from .shards import refuse_recurrent, twins
from .single_values import refuse_single_values
from .stages import Release, Stage
from .state import set_weights, whole_weights_of
from .tasks import Mean, Objective, Task, classification, reconstruction, regression, segmentation, variational

__all__ = [
    "LAYOUTS",
    "MADE",
    "MODES",
    "PRECISIONS",
    "Augment",
    "Batch",
    "Caching",
    "Diverged",
    "Examples",
    "Folder",
    "Interrupted",
    "Lost",
    "Mean",
    "Memory",
    "Objective",
    "Order",
    "Phase",
    "Ranks",
    "Release",
    "Run",
    "Splits",
    "Stage",
    "Stop",
    "Task",
    "Trainer",
    "Wanted",
    "asked_for",
    "class_iou",
    "class_loss",
    "class_weights",
    "classification",
    "complain",
    "compute_deterministically",
    "device",
    "estimate",
    "evaluate",
    "fingerprint_of_path",
    "freeze_all_but",
    "frozen_hash",
    "graceful",
    "hush",
    "locked",
    "of_each_class",
    "parameter_count",
    "ranks",
    "reconstruction",
    "refuse_recurrent",
    "refuse_single_values",
    "regression",
    "seed_all",
    "segmentation",
    "segments_of",
    "set_weights",
    "train_mode",
    "twins",
    "variational",
    "whole_weights_of",
]
