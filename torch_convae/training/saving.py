"""When a run is saved, and back from what was saved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from .archive import finite
from .checkpoint import Checkpoint, Position, capture, go_back, identity_of, refuse_other
from .examples import Splits
from .folder import Folder
from .guard import Jump, Spike
from .run import Run

SECONDS_BETWEEN = 10.0  # about as much as a run that is killed loses
SHARE = 0.02  # of the time, at most, is spent on saving


@dataclass
class Saver:
    """Saves a run into its folder, and knows when that was last done and how long it took."""

    folder: Folder
    models: nn.Module
    splits: Splits
    run: Run
    weights: str | None
    saved: float = field(default_factory=time.perf_counter)
    cost: float = 0.0

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run is about; reading all data takes a moment, so it is done once."""
        return identity_of(self.splits, self.models, self.weights)

    @property
    def due(self) -> bool:
        """Whether so much time has passed that it is worth saving, and saving is cheap beside it."""
        return time.perf_counter() - self.saved > max(SECONDS_BETWEEN, self.cost / SHARE)

    def save(self, position: Position, good: bool = False) -> None:
        """Save, unless a number is not finite; with `good`, the guard may go back to here."""
        if good:
            position.progress.since_good = 0
        started = time.perf_counter()
        checkpoint = capture(position, self.models, self.run, self.identity)
        if not finite([checkpoint["weights"], checkpoint["moments"]]):
            raise Jump(Spike(position.watch.steps, math.nan, math.nan, math.nan, None))
        self.run.ranks.once(self.folder.save, checkpoint, position.progress.history, good)
        self.saved = time.perf_counter()
        self.cost = self.saved - started

    def restore(self) -> Position | None:
        """Go back to where the run was saved last, if it was. Other data than it was begun on are refused."""
        return self._from(self.folder.restore)

    def restore_good(self) -> Position | None:
        """Go back to the last checkpoint that was called good, if it is whole."""
        return self._from(self.folder.good)

    def _from(self, read: Callable[[], Checkpoint | None]) -> Position | None:
        checkpoint = self.run.ranks.once(read)
        if checkpoint is None:
            return None
        refuse_other(self.folder.path, checkpoint["identity"], self.identity)
        return go_back(checkpoint, self.models, self.run)
