"""What each weight of a source is called in a PyTorch state dict, and how it becomes that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import BridgeError
from .flattening.flatten import OF_ROWS, maps_of
from .layers.convolved import as_convolution, as_linear
from .layers.directions import half_of
from .layers.layouts import KINDS, RECURRENT, Layout, kind_of_torch_weight, kind_of_weights
from .layers.lookalikes import lookalike
from .layers.normalised import transform_of
from .layers.transform import Transform, identity
from .matching.inside import Model, model_with_names
from .naming import names
from .options import Options, shortened
from .source import Source, key_of, split
from .torch_files import from_state_dict

VECTORS = frozenset({"BatchNormalization", "LayerNormalization", "PReLU"})
WRAPPERS = frozenset({"TimeDistributed", "Bidirectional", "RNN"})


@dataclass(frozen=True)
class Entry:
    """One tensor of a state dict: from `key` by `transform`, or of the same shape and filled with a constant."""

    name: str
    key: str
    transform: Transform
    fill: float | None = None

    def tensor(self, source: Source) -> Tensor:
        """The numbers."""
        if self.fill is None:
            return self.transform.apply(source[self.key])
        shape = self.transform.shape(source.shapes[self.key])
        return torch.full(shape, self.fill, dtype=torch.from_numpy(source[self.key]).dtype)


def as_state(source: Source, options: Options) -> Source:
    """The source as the state dict that it would be converted to."""
    named = entries(source, names.SCHEMES["keras"], options)
    return replace(from_state_dict({each.name: each.tensor(source) for each in named}), path=source.path)


def entries(source: Source, scheme: names.Scheme, options: Options) -> list[Entry]:
    """Every tensor that has a name in the scheme, in the source's order; two of one name are refused."""
    if source.undecided:
        raise BridgeError(f"{source.name}: {source.undecided}")
    found = list(_torch(source, scheme, options) if source.layout == "torch" else _keras(source, scheme, options))
    first: dict[str, Entry] = {}
    for entry in found:
        other = first.setdefault(entry.name, entry)
        if other is not entry:
            raise BridgeError(
                f"{source.name}: {entry.key} and {other.key} would both be called {entry.name}. Skip one of them."
            )
    return found


def _torch(source: Source, scheme: names.Scheme, options: Options) -> Iterator[Entry]:
    kinds = _torch_kinds(source)
    own = names.detect(kinds)
    keras = _keras_names(source)
    named = _named(source, scheme, {keras[layer]: kind for layer, kind in kinds.items()}, options)
    for key, shape in source.shapes.items():
        layer, role = split(key)
        if options.skips([key, layer]) or keras[layer] not in named:
            continue
        name, transform = named[keras[layer]], identity(shape)
        if role == "weight" and name in scheme.convolved:
            transform = as_convolution(source, key, transform, shape)
        elif role == "weight" and layer in own.convolved:
            transform = as_linear(transform, shape)
        yield Entry(_dotted(name, role), key, transform)


def _torch_kinds(source: Source) -> dict[str, str]:
    return {layer: kind_of_torch_weight(shapes.get("weight", ())) for layer, shapes in source.layers.items()}


def _keras_names(source: Source) -> dict[str, str]:
    """What Keras calls the layers of a state dict, as far as one of the naming schemes knows them."""
    kinds = _torch_kinds(source)
    known = names.detect(kinds).to_keras(kinds)
    return {layer: known.get(layer, layer) for layer in kinds}


def _keras(source: Source, scheme: names.Scheme, options: Options) -> Iterator[Entry]:
    kinds = {layer: _kind(source, layer, options) for layer in source.layers}
    named = _named(source, scheme, kinds, options)  # of all layers: a number may depend on those before it
    maps = maps_of(source)
    for key, shape in source.shapes.items():
        layer, role = split(key)
        if options.skips([key, layer]) or layer not in named:
            continue
        for layout in _taking(source, key, kinds[layer]):
            transform = transform_of(source, layer, kinds[layer], layout, shape)
            assert transform is not None
            if kinds[layer] in OF_ROWS | VECTORS:
                transform = maps.unfolded(transform, options, layer, role, shape, transform.shape(shape))
            if role == "kernel" and named[layer] in scheme.convolved:
                transform = as_convolution(source, key, transform, shape)
            yield Entry(_dotted(*_parameter(source, layer, named, layout, kinds[layer])), key, transform)
        yield from _beside(source, key, kinds[layer], named)


def _taking(source: Source, key: str, kind: str) -> list[Layout]:
    found = [each for each in KINDS[kind] if each.role == split(key)[1] and each.transform(source.shapes[key])]
    if not found:
        raise BridgeError(f"{source.name}: {key} is no weight of a {kind} layer. Leave it out with skip {key!r}.")
    return found


def _beside(source: Source, key: str, kind: str, named: Mapping[str, str]) -> Iterator[Entry]:
    """The parameters that a PyTorch module has beside this one where the Keras layer has none."""
    layer, role = split(key)
    for layout in KINDS[kind]:
        held = layout.role in source.layers[layer] and layout.transforms
        if layout.beside == role and layout.absent is not None and not held:
            like = next(each for each in _taking(source, key, kind) if each.role == role)
            transform = transform_of(source, layer, kind, like, source.shapes[key])
            assert transform is not None
            name = _dotted(*_parameter(source, layer, named, layout, kind))
            yield Entry(name, key, transform, layout.absent)


def _parameter(source: Source, layer: str, named: Mapping[str, str], layout: Layout, kind: str) -> tuple[str, str]:
    """Where nn.LSTM and its like keep a weight: one level, and both directions in one module."""
    name, parameter = named[layer], layout.parameter
    if kind not in RECURRENT:
        return name, parameter
    if side := half_of(source, layer):
        return name.rpartition("/")[0], f"{parameter}_l0{'_reverse' if side == 'backward' else ''}"
    return name, f"{parameter}_l0"


def _dotted(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}".replace("/", ".").lstrip(".")


def _named(source: Source, scheme: names.Scheme, kinds: Mapping[str, str], options: Options) -> dict[str, str]:
    if named := scheme.from_keras(kinds):
        return named
    if model := _model(source, scheme, kinds, options):
        own = scheme.from_keras(model.own(kinds))
        return {layer: own[name] for layer, name in model.names.items() if name in own}
    raise BridgeError(
        f"{source.name} holds no layer that {scheme.name} has a name for: it has {shortened(list(kinds))}."
    )


def chosen_model(source: Source, scheme: names.Scheme, options: Options) -> Model | None:
    """The one of the source's models whose layers alone have names in the scheme; None where that is not so."""
    if source.layout == "torch":
        named = _keras_names(source)
        return _model(source, scheme, {named[layer]: kind for layer, kind in _torch_kinds(source).items()}, options)
    return _model(source, scheme, {layer: _kind(source, layer, options) for layer in source.layers}, options)


def _model(source: Source, scheme: names.Scheme, kinds: Mapping[str, str], options: Options) -> Model | None:
    kept = [layer for layer in kinds if not options.skips([layer])]
    return model_with_names(kinds, kept, scheme, source.name)


def _kind(source: Source, layer: str, options: Options) -> str:
    said = source.kinds.get(layer)
    shapes = {
        role: shape for role, shape in source.layers[layer].items() if not options.skips([key_of(layer, role), layer])
    }
    if not shapes:
        return kind_of_weights(source.layers[layer], None) or ""
    if reason := lookalike(source, layer, shapes, said or ""):
        raise BridgeError(f"{source.name}: {reason}")
    known = said is None or said in KINDS or said in WRAPPERS
    kind = kind_of_weights(shapes, None if said in WRAPPERS else said) if known else None
    if kind is None:
        what = said or f"a layer with {', '.join(shapes)}"
        raise BridgeError(
            f"{source.name}: {layer or 'the model'} is {what}, which is not known here. Leave it out with skip "
            f"{layer or next(iter(shapes))!r}."
        )
    return kind
