"""The one error of the bridge: its text is one line that names both sides and the next step."""

from __future__ import annotations

import unicodedata

# Control characters, marks that turn text around or are not seen, surrogates, ends of lines and paragraphs.
_STRANGE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # which some scripts need

LONGEST_MESSAGE, LONGEST_LINE = 900, 10_000  # characters of an error, and of a line of a table
LONGEST_END = 300  # of these: what a message ends with is the next step


class BridgeError(Exception):
    """A file, a module or an option that cannot be used; the command line prints it and exits with 2."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """A text without whatever a terminal obeys, which a file's names may hold, and without its middle if it is long."""
    if len(text) > longest:
        end = min(LONGEST_END, longest // 2)
        text = f"{text[: longest - end]} ... {text[-end:]}"
    if text.isprintable():  # nearly all are, and the way below is slow
        return text
    return "".join("?" if is_strange(character) else character for character in text.replace("\n", " "))


def is_strange(character: str) -> bool:
    """Whether a terminal would do something else than to show it."""
    return not character.isprintable() and character not in _JOINERS and unicodedata.category(character) in _STRANGE
