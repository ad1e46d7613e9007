"""Pairing layers by their place in the model alone, where the names on the two sides have nothing in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ..errors import BridgeError

Kinds = Mapping[str, str | tuple[str, ...]]  # layer -> its kind, or all that it may be, the usual one first
Fits = Callable[[str, str], str | None]  # source layer, module layer -> why the second does not take the first
Misfit = tuple[str, str, str]  # source layer, module layer, reason


def by_order(
    source: Kinds, own: Kinds, fits: Fits, sides: tuple[str, str] = ("the source", "the module"), doubt: str = ""
) -> dict[str, str]:
    """Source layer -> module layer: the first Conv2D to the first Conv2D, and so on within each kind.

    Both sides are in the model's order and without the layers that are left out. Kinds of which both
    sides have as many are paired each for itself. Where a layer may be of several kinds (a module's
    convolution can be a Dense layer in Keras), those that do not come out even are taken together.
    Refused, with both counts: another number of layers, or a pair of which the kinds differ or `fits`
    has something to say; then `doubt` tells what may be wrong with the source's order.
    """
    theirs, ours = ({layer: _kinds(kinds) for layer, kinds in side.items()} for side in (source, own))
    groups = _groups(theirs, ours)
    given, places = _grouped(theirs, groups), _grouped(ours, groups)
    pairs: dict[str, str] = {}
    for group in dict.fromkeys([*given, *places]):
        layers, paths = given.get(group, []), places.get(group, [])
        found = zip(layers, paths, strict=False)
        reasons = ((layer, path, _other_kind(theirs[layer], ours[path]) or fits(layer, path)) for layer, path in found)
        misfit = next(((layer, path, reason) for layer, path, reason in reasons if reason), None)
        if misfit or len(layers) != len(paths):
            refusal = _refusal(" or ".join(group), layers, paths, misfit, sides)
            raise BridgeError(f"{refusal} {doubt}" if misfit and doubt else refusal)
        pairs |= zip(layers, paths, strict=True)
    return {layer: pairs[layer] for layer in source}


def _kinds(kinds: str | tuple[str, ...]) -> tuple[str, ...]:
    return (kinds,) if isinstance(kinds, str) else kinds


Side = Mapping[str, tuple[str, ...]]
Group = tuple[str, ...]


def _groups(theirs: Side, ours: Side) -> dict[str, Group]:
    """The kinds that are taken together with each, where it is not by itself."""
    given, places = (Counter(kinds[0] for kinds in side.values()) for side in (theirs, ours))
    uneven = {kind for kind in given | places if given[kind] != places[kind]}
    linked: list[set[str]] = []
    for kinds in dict.fromkeys(kinds for side in (theirs, ours) for kinds in side.values() if len(kinds) > 1):
        several = uneven.intersection(kinds)
        joined = several.union(*(group for group in linked if group & several))
        linked = [*(group for group in linked if not group & several), joined]
    return {kind: tuple(sorted(group)) for group in linked for kind in group}


def _grouped(side: Side, groups: Mapping[str, Group]) -> dict[Group, list[str]]:
    found: dict[Group, list[str]] = {}
    for layer, kinds in side.items():
        found.setdefault(groups.get(kinds[0], (kinds[0],)), []).append(layer)
    return found


def _other_kind(kinds: tuple[str, ...], own: tuple[str, ...]) -> str | None:
    return None if set(kinds) & set(own) else f"that is {' or '.join(own)} and takes no {' or '.join(kinds)}"


def _refusal(kind: str, layers: list[str], paths: list[str], misfit: Misfit | None, sides: tuple[str, str]) -> str:
    counts = f"{sides[0]} has {len(layers)} {kind} and {sides[1]} {len(paths)}"
    dotted = [path.replace("/", ".") for path in paths]
    if misfit:
        layer, path, reason = misfit
        found = f"by order {layer} would go to {path.replace('/', '.')}, but {reason}"
    else:
        layer = layers[len(paths)] if len(layers) > len(paths) else dotted[len(layers)]
        found = f"by order {layer} has no counterpart"
    return f"{counts}: {found}. Leave out what only one side has, with skip {layer!r}, or pair by name with rename."
