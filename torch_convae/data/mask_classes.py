"""What a mask's values mean: which is void, which class each other one is. Pure, from names and values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConvaeError
from .dataset import VOID

BINARY = ("background", "foreground")


@dataclass(frozen=True)
class KnownClasses:
    """A name for each mask value in order, as someone wrote them down, and the void value if they said so."""

    names: tuple[str, ...]
    void: int | None


@dataclass(frozen=True)
class MaskClasses:
    """Class names in index order, and for each value a mask may hold its class index or `VOID`."""

    names: tuple[str, ...]
    index_of: Mapping[int, int]

    def allowed(self) -> str:
        """The values a mask may hold, in words."""
        values = sorted(value for value, index in self.index_of.items() if index != VOID)
        void = [value for value, index in self.index_of.items() if index == VOID]
        whole = values == list(range(values[0], values[-1] + 1))
        text = f"{values[0]}..{values[-1]}" if whole else ", ".join(str(value) for value in values)
        return text + (f" and {void[0]} for void" if void else "")


CAMVID = KnownClasses(
    (
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    void=11,
)
KNOWN_FOLDERS = {"camvid": CAMVID}


def known_classes(folder: Path) -> KnownClasses | None:
    """What `classes.txt` in the folder says, else what its name says, else None.

    The file has one name a line in index order; the name `void` marks the void value.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return KNOWN_FOLDERS.get(folder.resolve().name.lower())
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConvaeError(f"{path} cannot be read ({problem}); save it as UTF-8, one name a line.") from problem
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise ConvaeError(f"{path} has no name in line {names.index('') + 1}; write one class name a line.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConvaeError(f"{path} has the name {twice[0]} twice; give each class a name of its own.")
    return KnownClasses(names, names.index("void") if "void" in names else None)


def decide(
    known: KnownClasses | None, void: int | None, train: frozenset[int], everywhere: frozenset[int]
) -> MaskClasses:
    """The meaning of the values that train's masks hold, given those of all splits.

    Void is what was asked for, else what is known, else a 255 beside at least two other values or names, or alone.
    Masks of train without anything else are refused. Two classes
    written as 0 and 255 become 0 and 1. Values above void move down by one, so that indices have no gap.
    """
    void = _void(known, void, everywhere)
    values = train - {void}
    if not values:
        raise ConvaeError(f"every mask of train is void, the value {void}, everywhere: nothing is learnt; check them.")
    names = dict(enumerate(known.names)) if known else _unnamed(values)
    named = {value: name for value, name in names.items() if value != void}
    if values == {0, 255} and len(named) == 2:
        named = dict(zip((0, 255), named.values(), strict=True))
    if len(named) < 2 or (known is None and len(values) < 2):
        found = ", ".join(str(value) for value in sorted(train))
        raise ConvaeError(f"fewer than two classes: train holds the values {found}, void is {void}; check the masks.")
    if len(named) > VOID:
        raise ConvaeError(f"{len(named)} classes are one too many beside void; name the void value with --void.")
    index_of = {value: index for index, value in enumerate(named)}
    return MaskClasses(tuple(named.values()), index_of if void is None else {**index_of, void: VOID})


def refuse_unknown(classes: MaskClasses, path: Path, held: Iterable[int]) -> None:
    """Raise for the first value of that file that is no class and not void."""
    for value in sorted(held):
        if value not in classes.index_of:
            raise ConvaeError(
                f"{path} holds the value {value}, but only {classes.allowed()} are known; correct the mask, "
                "list all classes in classes.txt, or name the void value with --void."
            )


def _void(known: KnownClasses | None, void: int | None, everywhere: frozenset[int]) -> int | None:
    if void is not None:
        return void
    if known is not None and known.void is not None:
        return known.void
    alone, several = everywhere == {VOID}, len(everywhere) > 2 or (known is not None and len(known.names) > 2)
    return VOID if VOID in everywhere and (alone or several) else None


def _unnamed(values: frozenset[int]) -> dict[int, str]:
    """Names for values nobody named: 0..highest under their own numbers, or background and foreground."""
    if values in ({0, 1}, {0, 255}):
        return dict(zip(sorted(values), BINARY, strict=True))
    return {value: str(value) for value in range(max(values, default=-1) + 1)}
