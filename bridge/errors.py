"""The one error of the bridge: its text is one line that names both sides and the next step."""


class BridgeError(Exception):
    """A file, a module or an option that cannot be used; the command line prints it and exits with 2."""
