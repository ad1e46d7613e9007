"""A module from what a command line can say: "package.module:factory" or "package.module:factory(classes=6)"."""

from __future__ import annotations

import ast
import importlib
from typing import Any

from torch import nn

from ..errors import BridgeError


def build(spec: str) -> nn.Module:
    """The module that the factory makes, called without arguments or with the plain values in the brackets."""
    name, colon, called = spec.partition(":")
    attribute, bracket, arguments = called.partition("(")
    if not (name and colon and attribute):
        raise BridgeError(f"--into {spec!r} is not of the form package.module:factory.")
    positional, named = _arguments(spec, bracket + arguments)
    try:
        factory: Any = importlib.import_module(name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # it is the caller's code, from its first line on
        raise BridgeError(f"--into {spec!r}: {error}.") from error
    try:
        module = factory if isinstance(factory, nn.Module) else factory(*positional, **named)
    except Exception as error:  # it is the caller's code: whatever it raises is what went wrong
        how = "" if bracket else " without arguments"
        raise BridgeError(f"--into {spec!r} could not be called{how}: {error}".split("\n")[0]) from error
    if not isinstance(module, nn.Module):
        raise BridgeError(f"--into {spec!r} made a {type(module).__name__}, not an nn.Module.")
    return module


def _arguments(spec: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """What stands in the brackets, as values; nothing in it is evaluated."""
    if not text:
        return [], {}
    try:
        call = ast.parse(f"_{text}", mode="eval").body
        if not isinstance(call, ast.Call) or not all(keyword.arg for keyword in call.keywords):
            raise ValueError("not a call")
        positional = [ast.literal_eval(argument) for argument in call.args]
        return positional, {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise BridgeError(f"--into {spec!r}: write plain values in the brackets, as in factory(classes=6).") from error
