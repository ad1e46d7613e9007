"""The way back: a module, or a converted file, as a file that Keras loads."""

from .save import KERAS_ENDINGS, save, write_source, write_state

__all__ = ["KERAS_ENDINGS", "save", "write_source", "write_state"]
