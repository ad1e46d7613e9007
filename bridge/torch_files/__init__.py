"""PyTorch's files and state dicts: .safetensors, .pt and .pth, read and written as data alone."""

from .sources import from_state_dict, read_pickled, read_safetensors

__all__ = ["from_state_dict", "read_pickled", "read_safetensors"]
