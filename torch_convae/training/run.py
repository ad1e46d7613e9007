"""Where and how a run computes: device, processes, precision, memory layout. Nothing else knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConvaeError
from .batch_norm import synchronise
from .randomness import generators, set_generators
from .ranks import Ranks, named
from .recompute import recompute
from .shards import shard

PRECISIONS = ("float32", "bfloat16", "float16")
LAYOUTS = ("channels-last", "contiguous")


@dataclass(frozen=True)
class Run:
    """One code path: what is switched off here is a no-op."""

    device: torch.device
    precision: str = "float32"
    layout: str = "contiguous"
    compile: bool = False
    accumulate: int = 1
    recompute: bool = False
    sync_batch_norm: bool = False
    shards: bool = False  # each process holds a part of every layer
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def memory_format(self) -> torch.memory_format:
        """PyTorch's word for the layout."""
        return torch.channels_last if self.layout == "channels-last" else torch.contiguous_format

    def prepare(self, model: nn.Module) -> None:
        """Bring a model, in place, to the device and layout."""
        if not self.shards:
            # to() knows the memory format at run time; its stub does not.
            model.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        if self.sync_batch_norm and self.ranks.count > 1:
            synchronise(model)
        if self.recompute:
            recompute(model)
        if self.shards:  # layer by layer, so that none is on the device whole
            shard(model, self.device, self.ranks.count)
        if self.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
            torch.backends.cudnn.benchmark = True  # steps are of one size: the search for the fastest way pays
        if self.compile:
            model.compile()  # in place: torch.compile(model) would change every name

    def wrap(self, objective: nn.Module) -> nn.Module:
        """What a step minimises, so that all processes have its gradients; to be called once all is frozen that is."""
        if self.ranks.count == 1 or self.shards:
            return objective
        where = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=where, gradient_as_bucket_view=True)

    def unwrapped(self, objective: nn.Module) -> nn.Module:
        """What `wrap` was given."""
        return objective.module if isinstance(objective, DistributedDataParallel) else objective

    @property
    def alone(self) -> Run:
        """How one process computes with a whole network: where shards are gathered."""
        return replace(self, device=torch.device("cpu"), shards=False) if self.shards else self

    def share(self, batch: Tensor) -> Tensor:
        """This process's share of a batch of indices."""
        return batch.tensor_split(self.ranks.count)[self.ranks.rank]

    def to_measure(self, batch: Tensor) -> tuple[Tensor, bool]:
        """This process's share of a batch, and whether it counts.

        All processes compute together, were it only to gather shards: one without a share computes what another counts.
        """
        share = self.share(batch)
        return (share, True) if len(share) else (batch[:1], False)

    def parts(self, batch: Tensor) -> list[Tensor]:
        """This process's share of a batch of indices, in the parts it is computed in: as many in every process.

        Refused: a batch of fewer than there are processes.
        """
        if len(batch) < self.ranks.count:
            raise ConvaeError(
                f"A batch of {len(batch)} has no share for each of {self.ranks.count} processes. Let the order join "
                "it with the one before, or leave it out."
            )
        return list(self.share(batch).tensor_split(max(min(self.accumulate, len(batch) // self.ranks.count), 1)))

    def exchanging(self, objective: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients go from process to process with the last part of a step."""
        if last or not isinstance(objective, DistributedDataParallel):
            return nullcontext()
        return objective.no_sync()

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients from vanishing in float16; in any other precision it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")

    def backward(self, loss: Tensor, scaler: torch.amp.GradScaler) -> None:
        """Add the gradients of a process's share of the loss."""
        scaler.scale(loss * self.ranks.count).backward()  # type: ignore[no-untyped-call]  # DDP takes their mean, not their sum

    def random_state(self) -> list[dict[str, Any]]:
        """Where the generators of every process are, for a checkpoint."""
        return self.ranks.gather(generators())

    def set_random_state(self, states: Sequence[dict[str, Any]]) -> None:
        """Back to where this process's were; a process that was not there before starts with its own."""
        if self.ranks.rank < len(states):
            set_generators(states[self.ranks.rank])

    def images(self, images: Tensor) -> Tensor:
        """A batch in the run's layout."""
        return images.contiguous(memory_format=self.memory_format)

    def inputs(self, model: nn.Module, images: Any) -> Any:
        """What a network takes, from images as bytes; features that were kept are taken as they are."""
        x = model.preprocessing(images)  # type: ignore[operator]
        return self.images(x) if images is not x else x

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision where the run has it."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))


def device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, and each process of a machine has its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    ranks = named()
    if ranks.count > 1 and name.startswith("cuda:"):
        raise ConvaeError(f"--device {name} is one device for {ranks.count} processes. Use --device cuda.")
    if ranks.count > 1 and name == "cuda":
        name = f"cuda:{ranks.local}"
    try:
        found = torch.device(name)
        torch.zeros((), device=found).item()  # "meta" has tensors, but no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConvaeError(f"There is no device {name!r} here. Use --device auto, cpu or cuda.") from error
    return found
