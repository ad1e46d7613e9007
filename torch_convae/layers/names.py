"""What Keras calls the layers without weights: by the published networks' rules, else numbered as Keras numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from .kinds import automatic

# Kind, what the layer before is called, and what that makes the layer: VGG's and DenseNet's names.
RULES = (
    ("Activation", r"((?:.*_)?)bn", r"\1relu"),
    ("MaxPooling2D", r"(block\d+)_(?:conv\d+|relu|.*_bn|conv\d+_relu)", r"\1_pool"),
    ("MaxPooling2D", r"conv1_relu", "pool1"),
    ("AveragePooling2D", r"(pool\d+)_conv", r"\1_pool"),
    ("GlobalAveragePooling2D", r"relu", "avg_pool"),
    ("Concatenate", r"(conv\d+_block\d+)_2_conv", r"\1_concat"),
)

# The same in torchvision's numbers and names: what follows a layer of that path.
FOLLOWING = (
    (r"(.*)\.(\d+)", None),
    (r"(.*\.)norm([012]?)", r"\1relu\2"),
    (r"(.*\.)relu0", r"\1pool0"),
    (r"(.*transition\d\.)conv", r"\1pool"),
)


@dataclass
class Namer:
    """Gives each layer of a network one name."""

    numbers: dict[str, Iterator[int]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)

    def by_rule(self, kind: str, before: str | None) -> str:
        """The name of a layer without weights that stands behind the layer of that name."""
        for rule, pattern, name in RULES:
            if kind == rule and before is not None and (match := re.fullmatch(pattern, before)):
                return self.unique(match.expand(name))
        number = next(self.numbers.setdefault(kind, count()))
        return self.unique(automatic(kind) + (f"_{number}" if number else ""))

    def unique(self, name: str) -> str:
        """The name, with the number of its use where it is used again."""
        fresh = next(one for one in _uses(name) if one not in self.given)
        self.given.add(fresh)
        return fresh


def _uses(name: str) -> Iterator[str]:
    yield name
    for use in count(2):
        yield f"{name}:{use}"


def following(path: str | None) -> str | None:
    """torchvision's name of the layer without weights behind the one of that name; None where it has none."""
    for pattern, name in FOLLOWING:
        if path is not None and (match := re.fullmatch(pattern, path)):
            return match.expand(name) if name else f"{match[1]}.{int(match[2]) + 1}"
    return None
