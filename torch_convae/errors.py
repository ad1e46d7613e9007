"""The one error a user can cause: its text is one line that names the thing and the next step."""

BYTES = frozenset(map(chr, range(0xDC80, 0xDD00)))  # how Python writes the bytes of a name that are no UTF-8


class ConvaeError(Exception):
    """Input or options that cannot be used; the command line prints it and exits with 2."""


def one_line(text: str, names: bool = False) -> str:
    """The text as one printable line, whatever a name in it holds.

    With `names` the bytes of a file's name that are no UTF-8 stay, as Python escapes them: for files, not for people.
    """
    kept = BYTES if names else ()
    return "".join(
        character if character.isprintable() or character in kept else "?" for character in " ".join(text.split())
    )
