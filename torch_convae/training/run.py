"""Where and how a run computes: device, precision, memory layout, compilation. Nothing else knows of them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConvaeError

PRECISIONS = ("float32", "bfloat16")
LAYOUTS = ("channels-last", "contiguous")


@dataclass(frozen=True)
class Run:
    """One code path: what is switched off here is a no-op."""

    device: torch.device
    precision: str = "float32"
    layout: str = "contiguous"
    compile: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """PyTorch's word for the layout."""
        return torch.channels_last if self.layout == "channels-last" else torch.contiguous_format

    def prepare(self, model: nn.Module) -> None:
        """Bring a model, in place, to the device and layout."""
        # to() knows the memory format at run time; its stub does not.
        model.to(device=self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        if self.compile:
            model.compile()  # in place: torch.compile(model) would change every name

    def images(self, images: Tensor) -> Tensor:
        """A batch in the run's layout."""
        return images.contiguous(memory_format=self.memory_format)

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision where the run has it."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))


def device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.zeros((), device=found).item()  # "meta" has tensors, but no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConvaeError(f"There is no device {name!r} here. Use --device auto, cpu or cuda.") from error
    return found
