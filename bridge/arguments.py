"""What a function is given is what it takes, or one line says so before anything is read or written."""

from __future__ import annotations

import math
import os
from typing import Any

from torch import nn

from .errors import BridgeError


def check_module(given: Any) -> None:
    """Refuse what is no module: a state dict, a class that nobody called, arguments the wrong way round."""
    if isinstance(given, type):
        raise BridgeError(f"A module is wanted, not the class {given.__name__}. Call it: {given.__name__}(...).")
    if not isinstance(given, nn.Module):
        raise BridgeError(f"A module (nn.Module) is wanted, not {_named(given)}. Give the one whose weights are meant.")


def check_path(given: Any) -> str:
    """The text of a path; nothing else names a file."""
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        raise BridgeError(f"A file is named by a text or a pathlib.Path, not by {_named(given)}.")
    return os.fspath(given)


def check_number(name: str, given: Any, zero: bool = False) -> None:
    """Refuse what is no finite number above zero, or of at least zero."""
    number = isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    if not number or given < 0 or not (given or zero):
        raise BridgeError(f"{name} is {given!r}, but should be a number {'of at least' if zero else 'above'} 0.")


def _named(given: Any) -> str:
    return "None" if given is None else f"a value of type {type(given).__name__}"
