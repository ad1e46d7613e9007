"""The arrays of a Keras file, from what its weights became in PyTorch: every transform undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import BridgeError
from ..layers.layouts import kind_of_torch_weight
from ..layers.transform import Transform
from ..matching.match import planned
from ..matching.slots import tensor_of
from ..naming import names
from ..options import Options
from ..source import Shape, Source, split
from ..state_dict import Entry, entries

SECOND_BIAS, FIRST_BIAS = "bias_hh", "bias_ih"


@dataclass(frozen=True)
class Piece:
    """What one PyTorch tensor gives to the Keras array `key`: all of it, or one row."""

    key: str
    name: str
    transform: Transform
    tensor: Tensor


def of_module(module: nn.Module, like: Source, options: Options) -> dict[str, Tensor]:
    """The arrays of `like` from the module that its weights would be loaded into.

    Refused: arrays that the module has nothing for, unless they are skipped and stay as they are.
    """
    plan = planned(like, module, options)
    missing = [key for key in plan.skipped if not options.skips((key, split(key)[0]))]
    if missing:
        raise BridgeError(
            f"{type(module).__name__} has nothing for {missing[0]} of {like.name}: {plan.reasons[missing[0]]}. "
            f"Keep the file's numbers with skip {missing[0]!r}."
        )
    pieces = [
        Piece(copy.source, copy.target, copy.transform, tensor_of(module, copy.target)) for copy in plan.copied.values()
    ]
    return arrays(pieces, like.shapes, {name: (tensor_of(module, name), value) for name, value in plan.filled.items()})


def of_state(
    state: Source, like: Source, options: Options
) -> tuple[dict[str, Tensor], dict[str, tuple[str, Transform]]]:
    """The arrays of `like` from a state dict with the names that `convert` gives, in any naming scheme.

    Also what became of each key of the state dict. Refused: arrays that the state dict has nothing for,
    unless they are skipped and stay as they are.
    """
    kinds = {layer: kind_of_torch_weight(shapes.get("weight", ())) for layer, shapes in state.layers.items()}
    scheme = names.detect(kinds)
    wanted = entries(like, scheme, options)
    held = _held(state, wanted)
    named = {entry.key for entry in wanted}
    missing = [entry.name for entry in wanted if entry.fill is None and entry.name not in held]
    missing += [key for key in like if key not in named and not options.skips((key, split(key)[0]))]
    if missing:
        raise BridgeError(
            f"{state.name} has no {missing[0]}, which {like.name} holds. Keep that file's numbers with skip, "
            f"or give the file that these weights came from as the one to write like."
        )
    tensors = {entry.name: torch.from_numpy(state[held[entry.name]]) for entry in wanted if entry.name in held}
    pieces = [
        Piece(entry.key, entry.name, entry.transform, tensors[entry.name]) for entry in wanted if entry.fill is None
    ]
    for piece in pieces:
        expected = piece.transform.shape(like.shapes[piece.key])
        if tuple(piece.tensor.shape) != expected:
            raise BridgeError(
                f"{state.name}: {piece.name} is {tuple(piece.tensor.shape)}, but {piece.key} of {like.name} is "
                f"{like.shapes[piece.key]}, which is {expected} in PyTorch. Give the file that these weights came from."
            )
    constants = {e.name: (tensors[e.name], e.fill) for e in wanted if e.fill is not None and e.name in tensors}
    went = {held[entry.name]: (entry.key, entry.transform) for entry in wanted if entry.name in held}
    return arrays(pieces, like.shapes, constants), went


def _held(state: Source, wanted: Iterable[Entry]) -> dict[str, str]:
    """Each key of a state dict by the name that is wanted: Keras may have numbered its layers in another session."""
    layers = dict.fromkeys(entry.name.rpartition(".")[0].replace(".", "/") for entry in wanted)
    aligned = names.aligned(list(state.layers), list(layers))
    return {"/".join((aligned[split(key)[0]], split(key)[1])).replace("/", ".").lstrip("."): key for key in state}


def arrays(
    pieces: Iterable[Piece], shapes: Mapping[str, Shape], constants: Mapping[str, tuple[Tensor, float]]
) -> dict[str, Tensor]:
    """Keras's arrays from their pieces. `constants` are what PyTorch has and Keras's layer does without.

    Refused: such a parameter that is no longer that constant, for Keras could not compute with it.
    """
    rows: dict[str, dict[int | None, Tensor]] = {}
    second = {name: tensor for name, (tensor, _) in constants.items() if SECOND_BIAS in name}
    for name, (tensor, value) in constants.items():
        if name not in second and not torch.equal(tensor, torch.full_like(tensor, value)):
            raise BridgeError(
                f"{name} is no longer {value:g}, and the Keras layer has no weight for it. Set it back first."
            )
    for piece in pieces:
        tensor = _numbers(piece.tensor)
        other = second.get(piece.name.replace(FIRST_BIAS, SECOND_BIAS)) if FIRST_BIAS in piece.name else None
        if other is not None and other.count_nonzero():  # PyTorch adds two biases where Keras has one
            tensor = tensor + _numbers(other)
        rows.setdefault(piece.key, {})[piece.transform.row] = piece.transform.back(tensor, shapes[piece.key])
    return {key: _assembled(parts) for key, parts in rows.items()}


def _numbers(tensor: Tensor) -> Tensor:
    """A tensor on the CPU, in a type that NumPy has."""
    own = tensor.detach().cpu()
    return own.float() if own.dtype == torch.bfloat16 else own


def _assembled(parts: Mapping[int | None, Tensor]) -> Tensor:
    if None in parts:
        return parts[None].contiguous()
    return torch.stack([parts[row] for row in sorted(parts, key=lambda row: row or 0)])
