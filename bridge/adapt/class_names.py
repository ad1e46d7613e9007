"""Which old classes each new class is made of: from lists, from a mapping, or from two text files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ..errors import BridgeError
from ..hdf5 import regular
from ..options import shortened, unmatched

NewClasses = Sequence[str] | Mapping[str, str | Sequence[str] | None]
Parts = dict[str, tuple[str, ...]]  # each new class with the old ones it is made of; () for one that is new

MOST_CHARACTERS = 1 << 20  # of a file with the names of classes


def parts_of(old: Sequence[str], new: NewClasses) -> Parts:
    """Each new class, in order, with its old ones.

    Refused: a name given twice, an old class that is not among `old` or goes to two new ones, and
    new classes without any old one.
    """
    if isinstance(old, str) or isinstance(new, str):
        raise BridgeError("Classes are lists of names, not one text. Give ['cat', 'dog'].")
    known = dict.fromkeys(old)
    if isinstance(new, Mapping):
        parts = {
            name: (made_of,) if isinstance(made_of, str) else tuple(made_of or ()) for name, made_of in new.items()
        }
    else:
        _refuse_doubles("new classes", new)
        parts = {name: (name,) if name in known else () for name in new}
    used = [name for names in parts.values() for name in names]
    for name in (*old, *parts, *used):
        if not isinstance(name, str):
            raise BridgeError(f"Classes are named by text, not by {name!r}. Give their names.")
    _refuse_doubles("old classes", old)
    for name in used:
        if name not in known:
            raise BridgeError(unmatched("class", name, list(old)))
    _refuse_doubles("old classes that the new ones are made of", used)
    if not used:
        raise BridgeError(
            f"None of the new classes ({shortened(list(parts)) or 'none'}) is among the old ones "
            f"({shortened(list(old))}). Leave the head out with skip instead."
        )
    return parts


def _refuse_doubles(what: str, names: Iterable[str]) -> None:
    doubles = [name for name, count in Counter(names).items() if count > 1]
    if doubles:
        raise BridgeError(f"The {what} name {doubles[0]!r} more than once. Name each one once.")


def read_classes(old: str | PathLike[str], new: str | PathLike[str]) -> tuple[list[str], Parts]:
    """The old and the new classes for `classes`, from two text files with a name on each line.

    In the new file "vehicle = car + truck" merges, "taxi = car" renames, and "bike =" is new even
    where there is an old class of that name; a name alone is the old class of that name, or else new. The
    signs count with spaces around them only, and not in a line that is an old class's name as it stands.
    """
    names = _lines(old)
    known = frozenset(names)
    parts: Parts = {}
    for line in _lines(new):
        name, made_of = _parsed(line, known)
        if name in parts:
            raise BridgeError(f"{new} names {name!r} more than once. Name each class once.")
        parts[name] = made_of
    return names, parts


def _parsed(line: str, known: Collection[str]) -> tuple[str, tuple[str, ...]]:
    name, sign, right = f"{line} ".partition(" = ")
    if line in known or not sign:
        return line, (line,) if line in known else ()
    made_of = right.strip()
    several = [made_of] if made_of in known else made_of.split(" + ")
    return name.strip(), tuple(part.strip() for part in several if part.strip())


def _lines(path: str | PathLike[str]) -> list[str]:
    """The lines of a small text file that are not blank."""
    try:
        with os.fdopen(regular(Path(path)), encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise BridgeError(f"{path} cannot be read ({error}). Give a text file with one class name a line.") from error
    if len(text) > MOST_CHARACTERS:
        raise BridgeError(f"{path} is longer than {MOST_CHARACTERS} characters. Give one class name a line.")
    return [line.strip() for line in text.split("\n") if line.strip()]
