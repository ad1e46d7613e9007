"""The processes of a run: who they are, and what they decide, add up and do together.

One process is the plain case of all this: every function here then gives back what it was given.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..errors import ConvaeError
from ..orphans import end_with

T = TypeVar("T")
# What PyTorch's backends say, in their several ways, when a process at the other end is gone.
PEER_IS_GONE = ("gloo", "nccl", "peer", "connection", "broken pipe", "socket", "timed out", "store")


class Lost(Exception):
    """Another process of the run has ended, so this one cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `count`, and `local` of those on this machine. Rank 0 reads, writes and speaks."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def silent(self) -> bool:
        """Whether another process shows what this one would."""
        return self.rank > 0

    def once(self, action: Callable[..., T], *arguments: Any) -> T:
        """What `action` gives in rank 0, where alone it is done; a refusal there is a refusal in all."""
        if self.count == 1:
            return action(*arguments)
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = action(*arguments)
            except ConvaeError as error:
                outcome[1] = str(error)
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise ConvaeError(outcome[1])
        value: T = outcome[0]
        return value

    def together(self, action: Callable[..., T], *arguments: Any) -> T:
        """What `action` gives here; what one process refuses, all refuse."""
        if self.count == 1:
            return action(*arguments)
        value, refusal = None, None
        try:
            value = action(*arguments)
        except ConvaeError as error:
            refusal = str(error)
        if refusals := [text for text in self.gather(refusal) if text is not None]:
            raise ConvaeError(refusals[0])
        return value  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes; `value` itself may change."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def agree(self, number: int | None) -> int | None:
        """The largest number that any process has; None where none has one. It does not wait for a device."""
        if self.count == 1:
            return number
        shared = torch.tensor(-1 if number is None else number)  # on the CPU, where gloo adds it up
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return None if int(shared) < 0 else int(shared)

    def spread(self, module: nn.Module) -> None:
        """Rank 0's buffers to all: each process has kept the batch statistics of its own share."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def own_randomness(self) -> None:
        """Other random numbers than those of rank 0, so that Dropout differs; rank 0 keeps its own."""
        if self.rank:
            digest = hashlib.sha256(f"{torch.initial_seed()} {self.rank}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "big"))


@contextmanager
def ranks(on_cuda: bool) -> Iterator[Ranks]:
    """This process among those that torchrun started; alone where it started none."""
    found = named()
    if found.count == 1:
        yield found
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun's; killed, it would leave its processes to train on
        end_with(os.getppid())
    store, rank, count = next(rendezvous("env://"))
    # A store may outlive the processes that torchrun started before these, and would still say where those were.
    own = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", store=own, rank=rank, world_size=count)
    try:
        yield found
    except ConvaeError:
        raise
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in PEER_IS_GONE):
            raise Lost(f"process {found.rank} of {found.count}: another process of the run has ended") from error
        raise
    else:
        dist.destroy_process_group()  # with a process gone it would wait for that one


def named() -> Ranks:
    """What the environment says this process is."""
    try:
        rank, count, local = (int(os.environ.get(name, one)) for name, one in WORDS.items())
    except ValueError as error:
        raise ConvaeError(f"{', '.join(WORDS)} should be whole numbers, as torchrun sets them.") from error
    return Ranks(rank, count, local)


WORDS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def hush() -> None:
    """Only rank 0 prints; what the others would print is the same."""
    if named().rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - it is to stay open


def complain(text: str, everyone: bool = False) -> None:
    """A line on stderr: from rank 0, or from every process that has something of its own to say."""
    if everyone or not named().rank:
        print(text, file=sys.stderr)
