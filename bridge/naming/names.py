"""What layers are called: the naming schemes, both ways, and auto-numbered Keras names made canonical.

A new scheme is a line of the table: two functions from layers to names, or one that has them
already at other paths (`schemes.moved`). A new network is two more functions and a test of its
Keras names for `detect`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..errors import BridgeError
from . import densenet_names, vgg_names
from .auto_names import aligned, auto_prefix, canonical
from .schemes import Layers, Scheme, clear, either, moved

__all__ = ["SCHEMES", "Layers", "Scheme", "aligned", "auto_prefix", "canonical", "detect", "is_published", "scheme"]

KERAS = Scheme(
    "keras", lambda layers: {layer: layer for layer in layers}, lambda layers: {layer: layer for layer in layers}
)
TORCHVISION = Scheme(
    "torchvision",
    clear(either(vgg_names.from_torchvision, densenet_names.from_torchvision)),
    either(vgg_names.to_torchvision, densenet_names.to_torchvision),
)

# timm writes VGG's first dense layers as convolutions, at paths of their own; the rest is torchvision's.
TIMM_TOP = {"pre_logits/fc1": "classifier/0", "pre_logits/fc2": "classifier/3", "head/fc": "classifier/6"}
_FROM_TIMM = {path: own for own, path in TIMM_TOP.items()}


def _in_encoder(path: str) -> str | None:
    return path.removeprefix("encoder/") if path.startswith("encoder/") else None


def _as_encoder(path: str) -> str | None:
    """segmentation_models_pytorch keeps the features alone."""
    return f"encoder/{path}" if path.startswith("features/") else None


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        KERAS,
        TORCHVISION,
        replace(
            moved("timm", TORCHVISION, lambda path: TIMM_TOP.get(path, path), lambda path: _FROM_TIMM.get(path, path)),
            convolved=frozenset({"pre_logits/fc1", "pre_logits/fc2"}),
        ),
        moved("smp", TORCHVISION, _in_encoder, _as_encoder),
        Scheme("caffe", clear(vgg_names.from_caffe), vgg_names.to_caffe),
    )
}


def scheme(name: str) -> Scheme:
    """The scheme of that name; an unknown one is refused with the list."""
    if name not in SCHEMES:
        raise BridgeError(f"There is no naming scheme {name!r}; there are {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def detect(layers: Layers) -> Scheme:
    """The scheme that names the most of these layers as a published network's, whole or cut off; else Keras."""
    best, most = KERAS, 0
    for one in SCHEMES.values():
        names = one.to_keras(layers)
        if len(names) > most and is_published(names.values()):
            best, most = one, len(names)
    return best


def is_published(names: Iterable[str]) -> bool:
    """Whether these Keras names are those of a published network, whole or cut off."""
    given = set(names)
    return vgg_names.is_vgg(given) or densenet_names.is_densenet(given)
