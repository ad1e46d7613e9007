"""Which layer each batch normalisation follows directly: by the architecture, or else by names and order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..architecture import KerasLayer
from ..errors import BridgeError
from ..naming.names import auto_prefix
from ..source import Source, key_of
from .axes import KERAS, outputs, shapes_of
from .change import described

# Keras's names and PyTorch's.
VARIANCES = ("moving_variance", "running_var")
MEANS = ("moving_mean", "running_mean")


@dataclass(frozen=True)
class Pairs:
    """Each foldable normalisation with the layer it follows, and each other one with the reason why not."""

    follows: Mapping[str, str]
    left: Mapping[str, str]
    epsilons: Mapping[str, float]  # as far as the architecture says them
    inferred: bool


def widths(source: Source) -> dict[str, int]:
    """The batch normalisations of a source, in order, each with the number of its channels."""
    found = {}
    for layer, shapes in source.layers.items():
        variance = next((shapes[role] for role in VARIANCES if role in shapes), ())
        if len(variance) == 1:
            found[layer] = variance[0]
    return found


def followed(source: Source, given: Mapping[str, str]) -> Pairs:
    """What each batch normalisation follows; `given` pairs are taken as they are."""
    channels = widths(source)
    for norm, layer in given.items():
        if norm not in channels or outputs(source, layer, channels[norm]) is None:
            raise BridgeError(
                f"{source.name}: {norm!r} is not a batch normalisation of as many channels as {layer!r} gives. "
                f"Correct the pair; the batch normalisations are {', '.join(list(channels)[:5]) or 'none'}."
            )
    rest = {norm: width for norm, width in channels.items() if norm not in given}
    config = (source.architecture or {}).get("config")
    ends = config.get("output_layers") if isinstance(config, dict) else None
    architecture = dict(_places(described(source), "", ends))
    found = _by_architecture(source, rest, architecture) if architecture else _by_names(source, rest)
    pairs = Pairs({**given, **found.follows}, found.left, found.epsilons, found.inferred)
    if doubles := [layer for layer, count in Counter(pairs.follows.values()).items() if count > 1]:
        norms = [norm for norm, layer in pairs.follows.items() if layer == doubles[0]]
        raise BridgeError(
            f"{source.name}: {' and '.join(norms)} both seem to follow {doubles[0]}. "
            f"Say which layer each follows with pairs={{{norms[0]!r}: ...}}."
        )
    return pairs


@dataclass(frozen=True)
class _Place:
    """A layer of an architecture among its neighbours."""

    layer: KerasLayer
    prefix: str
    takers: Mapping[str, int]  # by how many of its neighbours each is taken
    ends: frozenset[str]  # the neighbours that their model gives out


def _places(found: tuple[KerasLayer, ...], prefix: str, ends: Any) -> Iterator[tuple[str, _Place]]:
    # A Sequential model does not list what it gives out: that is its last layer.
    out = frozenset(_words(ends)) or frozenset(layer.name for layer in found[-1:])
    takers = Counter(name for layer in found for name in set(layer.inputs))
    for layer in found:
        yield f"{prefix}{layer.name}", _Place(layer, prefix, takers, out)
        yield from _places(layer.children, f"{prefix}{layer.name}/", layer.config.get("output_layers"))


def _words(value: Any) -> Iterator[str]:
    """Every string in nested lists and dictionaries: Keras's records of outputs are ["name", 0, 0]."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _words(each)


def _by_architecture(source: Source, channels: Mapping[str, int], places: Mapping[str, _Place]) -> Pairs:
    follows, left, epsilons = {}, {}, {}
    for norm, width in channels.items():
        config = places[norm].layer.config if norm in places else {}
        if isinstance(config.get("epsilon"), (int, float)):
            epsilons[norm] = float(config["epsilon"])
        reason = _hindrance(source, norm, width, places)
        if reason:
            left[norm] = reason
        else:
            follows[norm] = places[norm].prefix + places[norm].layer.inputs[0]
    return Pairs(follows, left, epsilons, inferred=False)


def _hindrance(source: Source, norm: str, width: int, places: Mapping[str, _Place]) -> str | None:
    """Why a batch normalisation cannot be folded into what it follows; None where it can."""
    if norm not in places:
        return "the architecture does not have it"
    place = places[norm]
    if len(place.layer.inputs) != 1:
        return "it is used more than once" if place.layer.inputs else "no layer is in front of it"
    path = place.prefix + place.layer.inputs[0]
    before = places[path].layer if path in places else None
    if before is None or before.kind not in KERAS or not shapes_of(source, path):
        return f"it follows {path}, which is {before.kind or 'unknown' if before else 'unknown'}"
    if before.config.get("activation") not in (None, "linear"):
        return f"{path} has an activation of its own in between"
    if len(before.inputs) > 1:
        return f"{path} is used more than once"
    if place.takers[before.name] > 1 or before.name in place.ends:
        return f"{path} is needed without it, too"
    if not _of_channels(place.layer, before) or outputs(source, path, width) is None:
        return f"it does not normalise the channels of {path}"
    return None


def _of_channels(norm: KerasLayer, before: KerasLayer) -> bool:
    """Whether the normalisation is over the layer's channels, with its moving statistics."""
    axis = norm.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    dimensions = next((int(letter) for letter in before.kind if letter.isdecimal()), 0)
    first = before.config.get("data_format") == "channels_first" or before.config.get("dim_ordering") == "th"
    # A Dense layer's channels are last, and mostly the only ones: axis 1.
    fitting = ((1,) if first else (-1, dimensions + 1)) if dimensions else (-1, 1)
    return axis in fitting and norm.config.get("mode", 0) == 0  # Keras 1 had modes without moving statistics


_NORM = re.compile(r"batch_?normali[sz]ation|batch_?norm|norm|bn", re.IGNORECASE)
# What stands in a layer's name where its normalisation's has one of those: "res2a" and "bn2a" in the first ResNet50.
_WORDS = ("", "conv", "Conv", "conv2d", "conv1d", "conv3d", "dwconv", "deconv", "dense", "fc", "linear", "res")


def _by_names(source: Source, channels: Mapping[str, int]) -> Pairs:
    """By names that belong together ("conv1" and "conv1_bn", "bn1"), else by the order where names are mere numbers."""
    places = {layer: place for place, layer in enumerate(source.layers)}
    follows: dict[str, str] = {}
    left: dict[str, str] = {}
    unnamed = []
    for norm, width in channels.items():
        partners = _partners(norm, places)
        before = [layer for layer in partners if places[layer] < places[norm]]
        fitting = [layer for layer in before if outputs(source, layer, width)]
        if len(fitting) == 1:
            _settle(source, norm, fitting[0], follows, left)
        elif not partners:
            unnamed.append(norm)
        elif fitting:
            left[norm] = f"its name may speak of {fitting[0]} or {fitting[1]}"
        else:
            left[norm] = f"{before[0]} has not {width} outputs" if before else f"it stands before {partners[0]}"
    named = {*follows, *follows.values(), *left}
    runs = _runs([layer for layer in places if layer not in named], channels)
    for norm in unnamed:
        layer = _directly_before(source, norm, channels[norm], runs[norm])
        if layer is None:
            left[norm] = "neither its name nor the order of the layers says what it follows"
        else:
            _settle(source, norm, layer, follows, left)
    return Pairs({norm: follows[norm] for norm in channels if norm in follows}, left, {}, inferred=True)


def _settle(source: Source, norm: str, layer: str, follows: dict[str, str], left: dict[str, str]) -> None:
    """Pair the two, unless the statistics speak against it: behind a ReLU no mean is below zero, else some are."""
    means = next((source[key_of(norm, role)] for role in MEANS if key_of(norm, role) in source), None)
    if means is None or (means < 0).any():
        follows[norm] = layer
    else:
        left[norm] = f"no moving mean is below 0, as behind a ReLU; if there is none, pair it with {layer} by hand"


def _runs(order: list[str], channels: Mapping[str, int]) -> dict[str, list[str]]:
    """The layers between each batch normalisation and the one before it, in order."""
    runs: dict[str, list[str]] = {}
    run: list[str] = []
    for layer in order:
        if layer in channels:
            runs[layer], run = run, []
        else:
            run.append(layer)
    return runs


def _is_number(layer: str) -> bool:
    last = layer.rpartition("/")[2]
    return last.isdecimal() or auto_prefix(last) is not None


def _partners(norm: str, layers: Collection[str]) -> list[str]:
    """The layers that the name of a batch normalisation may speak of."""
    parent, slash, last = norm.rpartition("/")
    found = None if _is_number(norm) else _NORM.search(last)
    if not found:
        return []
    before, after = last[: found.start()], last[found.end() :]
    names = [f"{before}{word}{after}" for word in _WORDS] + [f"{before.rstrip('_-.')}{after}"]
    names += [after.lstrip("_-.")] if not before else []
    paths = [f"{parent}{slash}{name}" for name in names if name and not name.isdecimal()]
    paths += [parent] if last == found[0] else []
    return [path for path in dict.fromkeys(paths) if path and path != norm and path in layers]


def _directly_before(source: Source, norm: str, width: int, run: list[str]) -> str | None:
    """The last of the layers before a batch normalisation, where both names are mere numbers in one part.

    Of branches Keras stores all convolutions and then all normalisations: several that fit are refused.
    """
    layer = run[-1] if run else ""
    parent = norm.rpartition("/")[0]
    beside = [other for other in run if other.rpartition("/")[0] == parent]
    if layer not in beside or not (_is_number(norm) and _is_number(layer)) or not outputs(source, layer, width):
        return None
    if others := [other for other in beside if other != layer and outputs(source, other, width)]:
        raise BridgeError(
            f"{source.name}: {norm} may follow {layer} or {others[-1]}, and nothing tells which. "
            f"Give the file of the whole model, or say it with pairs={{{norm!r}: {layer!r}}}."
        )
    return layer
