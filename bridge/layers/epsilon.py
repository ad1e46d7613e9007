"""The epsilon of a normalisation: what a file says, else that of the network or of the Keras that it is from."""

from __future__ import annotations

import re

from ..source import Source
from .recurrent import config_of

MODERN = 1e-3
# DenseNets and ResNets of keras-applications, by the first layer of their second block, and what they call the others.
APPLICATIONS = 1.001e-5
_BLOCKS = ("conv2_block1_0_bn", "conv2_block1_preact_bn")
_OF_APPLICATIONS = re.compile(r"conv1[_/]bn|bn|post_bn|pool\d_bn|conv\d{1,2}_block\d{1,3}_(?:\d|preact)_bn")


def epsilon_of(source: Source, layer: str) -> float | None:
    """The epsilon of a normalisation, where the file says it."""
    said = config_of(source, layer).get("epsilon")
    return float(said) if isinstance(said, (int, float)) else None


def default_epsilon(source: Source, layer: str) -> float:
    """The epsilon of a BatchNormalization where the file does not say: that of Keras's version.

    Networks of keras-applications that are known by their layers' names have another of their own; a layer of
    the user's on top of them has not.
    """
    for start in (0, *(found.end() for found in re.finditer("/", layer))):
        outer, name = layer[:start], layer[start:]
        if _OF_APPLICATIONS.fullmatch(name) and any(f"{outer}{block}" in source.layers for block in _BLOCKS):
            return APPLICATIONS
    version = source.version
    if version is None or version >= (1, 2) or version == (1,):
        return MODERN
    return 1e-5 if version >= (1, 0, 8) else 1e-6
