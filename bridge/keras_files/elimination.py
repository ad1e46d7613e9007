"""Which inner layer of a nested model each name in a legacy file means, told by what the others mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

DEEPEST = 30  # models in models, and so how often one name may wait for others
MOST_LETTERS = 1 << 20  # of all names together; no model has as many


def eliminated(layer: str, scopes: Collection[str], children: Collection[str]) -> dict[str, str] | None:
    """The path of each scope in the model `layer`, of which `children` are the paths in it; None where one stays open.

    Keras names a layer in a Sequential model with that one's name in front, in a functional model by its own name
    alone. So "fc" may be of several models, until those of which it is not are named.
    """
    if sum(map(len, scopes)) + sum(map(len, children)) > MOST_LETTERS:
        return None
    candidates = _candidates(layer, scopes, children)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for _ in range(DEEPEST):
        for scope in scopes:
            left = candidates[scope] - taken if scope not in found else set()
            if len(left) == 1:
                found[scope] = left.pop()
                taken.add(found[scope])
        if len(found) == len(scopes):
            return found
    return None


def _candidates(layer: str, scopes: Iterable[str], children: Collection[str]) -> Mapping[str, set[str]]:
    """Every path that a scope may mean: its first parts are the end of a layer's path, the rest lies in that layer."""
    models = {child.rpartition("/")[0] for child in children}
    ends: dict[str, list[str]] = {}
    for child in children:
        parts = f"{layer}/{child}".split("/")[-DEEPEST:] if child not in models else []
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), []).append(child)
    found: dict[str, set[str]] = {}
    for scope in scopes:
        parts = scope.split("/")
        heads = ("/".join(parts[:count]) for count in range(min(len(parts), DEEPEST), 0, -1))
        head = next((each for each in heads if each in ends), None)
        found[scope] = {f"{child}{scope[len(head) :]}" for child in ends[head]} if head is not None else set()
    return found
