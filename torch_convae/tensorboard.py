"""The figures of a run for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import ConvaeError

FOLDER = "tensorboard"
History = Sequence[Mapping[str, Any]]


def require() -> None:
    """Refuse where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ConvaeError("--tensorboard needs TensorBoard. Install it: pip install 'torch-convae[tensorboard]'.")


def writer(folder: Path) -> Callable[[History], None]:
    """What writes the last epoch of a history into the run's folder.

    A run that goes on overrules what it wrote of an epoch that it now does again.
    """
    from torch.utils.tensorboard import SummaryWriter  # it takes a second, and may not be there

    made: list[SummaryWriter] = []

    def write(history: History) -> None:
        if not made:
            made.append(SummaryWriter(folder / FOLDER, purge_step=len(history)))
        line = history[-1]
        for name, value in line.items():
            if isinstance(value, float):
                made[0].add_scalar(f"{line['stage']}/{name}", value, len(history))
        made[0].flush()

    return write
