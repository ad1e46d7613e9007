"""The changes that a caller asks for, made to a source one after the other."""

from __future__ import annotations

from . import adapt
from .options import Options
from .source import Source


def adapted(source: Source, options: Options) -> Source:
    """The source with everything done to it that the options say; the same one where they say nothing."""
    if options.fold_batch_norm:
        source = adapt.fold_batch_norm(source)
    if options.flip_input:
        source = adapt.flip_input(source)
    if options.in_channels is not None:
        source = adapt.in_channels(source, options.in_channels)
    if options.classes is not None:
        source = adapt.classes(source, *options.classes)
    return source
