"""The one error a user can cause: its text is one line that names the thing and the next step."""


class ConvaeError(Exception):
    """Input or options that cannot be used; the command line prints it and exits with 2."""
