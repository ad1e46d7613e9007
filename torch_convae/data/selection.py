"""Which images to keep and which to hold out: pure functions from counts and classes to indices."""

import random
from collections.abc import Hashable, Sequence

TEST_SHARE = 0.2


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` indices, in order and evenly spaced; all of them without a limit."""
    if limit is None or limit >= count:
        return list(range(count))
    return [(2 * step + 1) * count // (2 * limit) for step in range(limit)]


def quotas(available: Sequence[int], limit: int) -> list[int]:
    """How many to take of each class: equal shares; what a small class cannot give comes from the others."""
    taken = [0] * len(available)
    smallest_first = sorted(range(len(available)), key=lambda index: available[index])
    for position, index in enumerate(smallest_first):
        taken[index] = min(available[index], limit // (len(available) - position))
        limit -= taken[index]
    return taken


def by_class(targets: Sequence[int]) -> dict[int, list[int]]:
    """The positions of each class among the targets, classes in order."""
    positions: dict[int, list[int]] = {}
    for position, target in enumerate(targets):
        positions.setdefault(target, []).append(position)
    return dict(sorted(positions.items()))


def balanced(targets: Sequence[int], limit: int | None) -> list[int]:
    """At most `limit` positions, in order, as even over the classes as the data allows."""
    if limit is None or limit >= len(targets):
        return list(range(len(targets)))
    members = list(by_class(targets).values())
    shares = quotas([len(positions) for positions in members], limit)
    return sorted(
        positions[step]
        for positions, share in zip(members, shares, strict=True)
        for step in spread(len(positions), share)
    )


def hold_out(count: int, seed: Hashable) -> tuple[list[int], list[int]]:
    """Split `count` >= 2 indices into train and test, the last fifth (at least one) of a seeded shuffle.

    Both lists are in order, so that the files are read in order.
    """
    shuffled = list(range(count))
    random.Random(str(seed)).shuffle(shuffled)
    held = max(1, round(count * TEST_SHARE))
    return sorted(shuffled[:-held]), sorted(shuffled[-held:])
