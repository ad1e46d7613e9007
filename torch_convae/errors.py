"""The one error a user can cause: its text is one line that names the thing and the next step."""


class ConvaeError(Exception):
    """Input or options that cannot be used; the command line prints it and exits with 2."""


def one_line(text: str) -> str:
    """The text as one printable line, whatever a name in it holds."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
