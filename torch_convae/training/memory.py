"""How much memory a stage takes: what it will, by a step on tensors without numbers, and what it took."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from .allocator import give_back
from .phase import Phase
from .run import Run
from .tasks import Objective

KEPT = {"adam": 2, "rmsprop": 1, "sgd": 1, "adadelta": 2}  # numbers that an optimizer keeps for each that trains


@dataclass(frozen=True)
class Memory:
    """Bytes on the run's device while a stage trains."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int  # what the forward pass keeps for the backward pass

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def estimate(run: Run, phase: Phase, images: Tensor, targets: Tensor, everything: bool = False) -> Memory:
    """What a step on such a batch needs, the model frozen as it is, or if `everything` trained, in the mode it is in.

    Images are bytes (N, C, H, W). Nothing is computed: the tensors have shapes and no numbers.
    """
    tensors = [*phase.model.parameters(), *phase.model.buffers()]
    parameters = phase.model.parameters()
    trained = sum(_bytes(parameter) for parameter in parameters if everything or parameter.requires_grad)
    kept = _kept(run, phase, images, targets, everything)
    return Memory(sum(map(_bytes, tensors)), trained, KEPT[phase.stage.optimizer] * trained, kept)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _kept(run: Run, phase: Phase, images: Tensor, targets: Tensor, everything: bool) -> int:
    """The bytes of what the forward pass of a step keeps, each storage once, the weights left out."""
    objective = Objective(phase.model, phase.task)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        state = {name: _alike(fake, tensor, everything) for name, tensor in _named(objective)}
        weights = {tensor.untyped_storage()._cdata for tensor in state.values()}
        found: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                found[storage._cdata] = storage  # held, so that no other takes its place
            return tensor

        x = run.images(phase.model.preprocessing(fake.from_tensor(images)))  # type: ignore[operator]
        # What a compiler made computes with addresses, which tensors without numbers have not.
        eager = torch.compiler.set_stance("force_eager")
        with eager, run.autocast(), saved_tensors_hooks(keep, lambda tensor: tensor):
            functional_call(objective, state, (x, fake.from_tensor(targets)))
    return sum(storage.nbytes() for storage in found.values())


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _alike(fake: FakeTensorMode, tensor: Tensor, everything: bool) -> Tensor:
    trains = tensor.requires_grad or (everything and isinstance(tensor, nn.Parameter))
    return fake.from_tensor(tensor.detach()).requires_grad_(trains)


class Peak:
    """The most memory that was in use since `start`: of the device, or on the CPU of the whole process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> None:
        """Forget what was before, where the system can; elsewhere it is the most of the whole run.

        A stage is not to be charged with what the one before has left free, which glibc may keep.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            give_back()
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """In bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
