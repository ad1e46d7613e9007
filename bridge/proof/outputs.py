"""Whole outputs: the module beside what the Keras model gave for the same inputs."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BridgeError
from ..hdf5 import most_unpacked, regular
from ..source import Array
from .report import Proof
from .trial import channels_first

MOST_BYTES = 4 << 30
INPUTS, OUTPUTS = ("x", "input"), ("y", "output")


@dataclass(frozen=True)
class Recorded:
    """What went into a Keras model and what came out, channels last, and where that is from."""

    name: str
    inputs: Sequence[Array]
    outputs: Sequence[Array]


def recorded(reference: str | PathLike[str] | Mapping[str, Array]) -> Recorded:
    """The inputs and outputs of an .npz file or of arrays by name, each in the order of their names' numbers."""
    arrays = reference if isinstance(reference, Mapping) else _read(Path(reference))
    name = "the reference" if isinstance(reference, Mapping) else Path(reference).name
    found = [[arrays[key] for key in sorted(_named(arrays, words), key=_number)] for words in (INPUTS, OUTPUTS)]
    if not all(found):
        held = ", ".join(arrays) or "nothing"
        raise BridgeError(
            f"{name} holds {held}. Save the inputs as x and the outputs as y: np.savez(path, x=..., y=...)."
        )
    for key, array in zip(("x", "y"), found, strict=True):
        if not all(np.size(each) for each in array):
            raise BridgeError(f"{name}: {key} holds no samples, which prove nothing. Record at least one.")
    return Recorded(name, *found)


def compared(module: nn.Module, record: Recorded, rtol: float, atol: float) -> list[Proof]:
    """Each recorded output beside the module's, in whichever order of the axes both agree.

    Images and sequences are given channels first, as PyTorch has them; where the module then gives nothing
    like the record, as they are. A module without the softmax or sigmoid at the end of Keras's is held
    against it with one, and the proof says so.
    """
    tried: list[list[Proof]] = []
    failures: list[str] = []
    for inputs in _orders(record.inputs):
        try:
            given = _run(module, inputs)
        except Exception as error:  # a module's own forward may raise anything
            failures.append(str(error).strip().split("\n")[0])
            continue
        tried.append([_output(record, at, given, rtol, atol) for at in range(len(record.outputs))])
        if all(proof.verdict == "same" for proof in tried[-1]):
            return tried[-1]
    if not tried:
        shapes = ", ".join(str(np.shape(array)) for array in record.inputs)
        raise BridgeError(f"{record.name}: {type(module).__name__} does not take inputs of {shapes}: {failures[0]}.")
    return tried[0]


def _output(record: Recorded, at: int, given: Sequence[Array], rtol: float, atol: float) -> Proof:
    expected = np.asarray(record.outputs[at], np.float64)
    proof = Proof(f"output {at}", "output", record.name, "differs")
    if at >= len(given):
        return replace(proof, reason=f"the module gives {len(given)} outputs, not {len(record.outputs)}")
    orders = [given[at], *([np.moveaxis(given[at], 1, -1)] if given[at].ndim > 2 else [])]
    fitting = [array for array in orders if array.shape == expected.shape]
    if not fitting:
        return replace(proof, reason=f"the module gives {given[at].shape}, recorded is {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(given[at]).all()):
        return replace(proof, reason="it holds numbers that are not finite")
    proof = replace(proof, scale=_largest(expected), difference=min(_largest(array - expected) for array in fitting))
    for word, activation in _ACTIVATIONS.items():
        for array in (activation(own) for own in fitting):
            if np.allclose(array, expected, rtol=rtol, atol=atol):
                said = f"behind a {word}, which the module leaves out" if word else ""
                return replace(proof, verdict="same", difference=_largest(array - expected), reason=said)
    return proof


def _largest(array: Array) -> float:
    return float(np.abs(array).max(initial=0.0))


def _run(module: nn.Module, inputs: Sequence[Array]) -> list[Array]:
    """The module's outputs as it predicts, in its own type and on its own device; its modes stay as they were."""
    like = next((each for each in module.parameters() if each.is_floating_point()), torch.empty(0))
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(like.device) for array in inputs]
    tensors = [tensor.to(like.dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):  # which by itself rounds to TF32
            given = module(*tensors)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return [tensor.detach().cpu().double().numpy() for tensor in _tensors(given)]


def _orders(inputs: Sequence[Array]) -> Iterator[list[Array]]:
    arrays = [np.asarray(array) for array in inputs]
    if any(array.ndim > 2 and array.dtype == np.uint8 for array in arrays):  # images, which Keras takes as floats
        arrays = [array.astype(np.float32) if array.dtype == np.uint8 else array for array in arrays]
    yield [channels_first(array) if array.ndim > 2 and array.dtype.kind == "f" else array for array in arrays]
    if any(array.ndim > 2 for array in arrays):
        yield arrays


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        for value in given.values():
            yield from _tensors(value)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for value in given:
            yield from _tensors(value)


def _read(path: Path) -> dict[str, Array]:
    os.close(regular(path))
    try:
        with zipfile.ZipFile(path) as archive:
            most = min(MOST_BYTES, most_unpacked(path.stat().st_size))
            if sum(member.file_size for member in archive.infolist()) > most:
                raise BridgeError(f"{path} holds more than {most} bytes. Record fewer samples.")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise BridgeError(f"{path} is not an .npz file of numbers ({error}). Write it with np.savez.") from error


def _named(arrays: Mapping[str, Array], words: tuple[str, ...]) -> list[str]:
    return [key for key in arrays if key.rstrip("0123456789").rstrip("_").removesuffix("s") in words]


def _number(key: str) -> int:
    digits = key[len(key.rstrip("0123456789")) :]
    return int(digits) if digits else -1


def _softmax(array: Array) -> Array:
    powers = np.exp(array - array.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(array: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * array)))


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"": np.asarray, "softmax": _softmax, "sigmoid": _sigmoid}
