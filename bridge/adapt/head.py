"""The layer that tells the classes apart: where its outputs lie, and the activation behind it."""

from __future__ import annotations

from ..architecture import walk
from ..errors import BridgeError
from ..options import shortened, unmatched
from ..source import Source, key_of
from .axes import DEPTHWISE, Outputs, counts, kind_of, outputs
from .change import described

# An activation, and what may stand between a head and it.
_BEHIND = frozenset(
    "Activation Softmax Reshape Permute Flatten UpSampling2D Cropping2D ZeroPadding2D Resizing Dropout".split()
)


def head_of(source: Source, count: int, layer: str | None = None) -> tuple[str, Outputs]:
    """The last convolution or dense layer, or the one named, and where its `count` outputs lie.

    Refused: another number of outputs; the message tells it, and which other layers have that many.
    """
    heads = {name: found for name in source.layers if (found := counts(source, name)) and DEPTHWISE not in [*found][:1]}
    if layer is not None and layer not in heads:
        raise BridgeError(f"{source.name}: {unmatched('layer', layer, list(heads))}")
    if not heads:
        raise BridgeError(f"{source.name} holds no convolution and no dense layer, so no head. Give other weights.")
    head = layer if layer is not None else [*heads][-1]
    likely = {name: next(iter(found.values())) for name, found in heads.items()}
    # Where neither a class nor a bias tells the outputs, the inputs must not pass for them.
    told = kind_of(source, head) is not None or key_of(head, "bias") in source
    where = outputs(source, head, count) if told or count == likely[head] else None
    if where is None or len(where.axes) > 1:
        others = [name for name, outs in likely.items() if name != head and outs == count]
        named = f"{shortened(others)} has: if that is the head, name it to bridge.adapt.classes as layer."
        raise BridgeError(
            f"{source.name}: {head} has {likely[head]} outputs, but {count} old classes are named. "
            f"{named if others else 'Correct the names.'}"
        )
    return head, where


def activation_of(source: Source, head: str) -> str | None:
    """The activation behind the head as the architecture says it: its own, or that of a layer behind it."""
    found = dict(walk(described(source)))
    parent = head.rpartition("/")[0]
    layer = found.get(head)
    beside = [each for path, each in found.items() if path.rpartition("/")[0] == parent]
    while layer is not None:
        said = layer.config.get("activation")
        if layer.kind == "Softmax":
            return "softmax"
        if said not in (None, "linear"):
            return said if isinstance(said, str) else None
        name = layer.name
        # Only forward: a damaged architecture may go round in circles.
        beside = beside[beside.index(layer) + 1 :]
        layer = next((each for each in beside if name in each.inputs and each.kind in _BEHIND), None)
    return None
