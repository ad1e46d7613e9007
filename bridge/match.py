"""Pairing a source with a module by name: pure, before any tensor moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from . import names as naming
from .errors import BridgeError
from .flatten import flattened, resolve
from .layouts import Transform, identity, kind_of_torch_weight
from .notes import epsilon_notes
from .options import Flattened, Options, Rename, renamed, shortened
from .plan import Copy, Plan
from .slots import Places, Slot, places, tensor_of
from .source import Source, split

# Keras 1 stored a transposed convolution (height, width, in, out); the reader puts that right where it can tell one.
DECONVOLUTION_AXES = (2, 3, 0, 1)


def match(
    source: Source,
    module: nn.Module,
    *,
    prefix: str = "",
    rename: Rename | None = None,
    skip: str | Sequence[str] = (),
    strict: bool = False,
    names: str | None = None,
    flatten: Flattened | None = None,
) -> Plan:
    """What loading the source into the module would do. Neither is changed or read beyond shapes.

    A source layer goes to the module's layer of the same Keras name: the name the module declares
    (`keras_layers`), the one its naming scheme gives (`names`: "keras" or "torchvision"; by default
    what the paths look like), or its path. `prefix` is the part of the module that the source
    describes ("encoder"). `rename` gives source layers or keys other names first: pairs of an exact
    name, a glob whose stars are carried over, or a regular expression with groups. `skip` holds
    globs over source layers, source keys and target names. `flatten` gives the map in front of a
    Dense layer, {"fc1": (height, width, channels)} or None for no Flatten, where the file does not.

    Refused: shapes that do not fit, two sources for one place, nothing that matches at all, a
    pattern that matches nothing, and with `strict` anything skipped or untouched.
    """
    pairs = tuple(rename.items() if isinstance(rename, Mapping) else rename or ())
    skips = (skip,) if isinstance(skip, str) else tuple(skip)
    sides = _pair(source, module, Options(prefix, pairs, skips, strict, names, flatten or {}))
    copied, reasons = _copies(sides)
    _refuse_misfits(source, copied)
    if not copied:
        raise BridgeError(_nothing_matches(source, module, sides.places))
    plan = _account(sides, copied, reasons)
    if strict:
        _refuse_leftovers(plan)
    return plan


@dataclass(frozen=True)
class _Sides:
    """The source and the module, and the slot each source key finds by its name."""

    source: Source
    module: nn.Module
    options: Options
    places: Places
    slots: Mapping[str, Slot]
    current: Mapping[str, str]  # source key -> its name after rename
    paths: Mapping[str, str]  # layer name after rename -> module path


def _pair(source: Source, module: nn.Module, options: Options) -> _Sides:
    where = places(module, options.prefix, options.names)
    options.check_skips([*source, *source.layers, *(slot.target for slot in where.slots)])
    options.check_flatten(list(source.layers))
    current = renamed(source, options.rename)
    kinds = {
        split(name)[0]: kind_of_torch_weight(source.shapes[key]) for key, name in current.items() if _is_weight(key)
    }
    paths = _paths(dict.fromkeys(split(name)[0] for name in current.values()), kinds, source.layout, where)
    by_name = {(slot.layer, slot.parameter): slot for slot in where.slots}
    by_name |= {(slot.layer, slot.layout.role): slot for slot in where.slots if slot.layout}
    slots = {}
    for key, name in current.items():
        layer, role = split(name)
        slot = by_name.get((paths.get(layer, layer), role))
        if slot is not None:
            slots[key] = slot
    return _Sides(source, module, options, where, slots, current, paths)


def _is_weight(key: str) -> bool:
    return key.endswith("/weight")


def _paths(layers: Mapping[str, None], kinds: naming.Layers, layout: str, where: Places) -> dict[str, str]:
    """The module path of each source layer that has a counterpart."""
    own = {slot.layer for slot in where.slots}
    by_name = {name: path for path, name in where.keras_names.items() if path in own}
    keras = {layer: layer for layer in layers}
    if layout == "torch":
        keras |= naming.detect(kinds).to_keras(kinds)
    if where.declared:
        keras = dict(zip(layers, naming.canonical(keras.values()).values(), strict=True))
        by_path = {layer: layer for layer in layers if layer in own and not naming.auto_prefix(layer)}
        found = by_path | {layer: by_name[name] for layer, name in keras.items() if name in by_name}
    elif layout == "torch":
        found = {layer: by_name[name] for layer, name in keras.items() if name in by_name}
        found |= {layer: layer for layer in layers if layer in own}
    else:
        found = {layer: layer for layer in layers if layer in own}
        aligned = naming.aligned(list(layers), list(by_name))
        found |= {layer: by_name[name] for layer, name in aligned.items() if name in by_name}
    return found


def _copies(sides: _Sides) -> tuple[dict[str, Copy], dict[str, str]]:
    """What goes where, and why each other source tensor goes nowhere."""
    flats = flattened(sides.source) if sides.source.layout == "keras" else {}
    copied: dict[str, Copy] = {}
    reasons: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key, shape in sides.source.shapes.items():
        slot = sides.slots.get(key)
        if sides.options.skips((key, split(key)[0], *((slot.target,) if slot else ()))):
            reasons[key] = "left out by skip"
        elif slot is None:
            reasons[key] = _no_counterpart(sides, key)
        elif slot.target in taken:
            raise BridgeError(f"{key} and {taken[slot.target]} both go to {slot.target}. Rename or skip one of them.")
        else:
            taken[slot.target] = key
            flat = resolve(flats, sides.options.flatten, split(key)[0], shape) if slot.ordered else None
            copied[key] = Copy(key, slot.target, _transform(sides.source, key, slot, flat), shape, slot.shape)
    return copied, reasons


def _transform(source: Source, key: str, slot: Slot, flat: Transform | None) -> Transform:
    shape = source.shapes[key]
    if source.layout == "torch" or slot.layout is None:
        return identity(shape)
    if len(slot.layout.axes) != len(shape):
        raise BridgeError(
            f"{source.name}: {key} is {shape}, but {slot.target} is {slot.shape}, the {slot.layout.role} of a "
            f"{slot.kind} layer. Keep its initial value with skip {split(key)[0]!r}."
        )
    axes = slot.layout.axes
    if slot.kind == "Conv2DTranspose" and len(shape) == 4 and _of_keras_1(source, split(key)[0]):
        axes = DECONVOLUTION_AXES
    return flat.with_axes(axes) if flat else Transform(axes)


def _of_keras_1(source: Source, layer: str) -> bool:
    """Whether Keras 1 stored a layer whose class its file does not tell, so that only the module does."""
    return (source.keras_version or "").split(".")[0] == "1" and layer not in source.kinds


def _no_counterpart(sides: _Sides, key: str) -> str:
    layer, role = split(sides.current[key])
    path = sides.paths.get(layer)
    return (
        f"the module has no layer {layer}" if path is None else f"the module's {path.replace('/', '.')} takes no {role}"
    )


def _refuse_misfits(source: Source, copied: Mapping[str, Copy]) -> None:
    misfits = [copy for copy in copied.values() if copy.transform.shape(copy.from_shape) != copy.to_shape]
    if not misfits:
        return
    first = misfits[0]
    becomes = first.transform.shape(first.from_shape)
    shown = (
        f"{first.from_shape} in Keras order, {becomes} in PyTorch order" if source.layout == "keras" else str(becomes)
    )
    more = f" {len(misfits) - 1} more do not fit." if len(misfits) > 1 else ""
    raise BridgeError(
        f"{source.name}: {first.source} is {shown}, but {first.target} is {first.to_shape}. Build the module with "
        f"that shape, or keep its initial value with skip {split(first.source)[0]!r}.{more}"
    )


def _nothing_matches(source: Source, module: nn.Module, where: Places) -> str:
    ours = list(dict.fromkeys(slot.layer.replace("/", ".") for slot in where.slots))
    text = f"{source.name} has nothing for {type(module).__name__}: the source holds {shortened(list(source.layers))}; "
    text += f"the module has {shortened(ours) or 'no parameters'}. "
    for path, part in module.named_modules():
        if path and any(name in source.layers for name, _ in part.named_children()):
            return f"{text}Try prefix={path!r}."
    return f"{text}Pair the names with rename, or check the file."


def _account(sides: _Sides, copied: Mapping[str, Copy], reasons: dict[str, str]) -> Plan:
    """The plan: what is copied, and everything else with its reason."""
    module, source = sides.module, sides.source
    sources = {sides.slots[key].layer: split(key)[0] for key in copied}
    done = {id(tensor_of(module, copy.target)) for copy in copied.values()}  # tied weights are filled together
    filled: dict[str, float] = {}
    for slot in sides.places.slots:
        if not slot.counts or id(tensor_of(module, slot.target)) in done:
            continue
        absent = _absent(slot, sources, source)
        if absent is None:
            reasons[slot.target] = _no_source(slot, sides.places)
        else:
            filled[slot.target] = absent
    skipped = tuple(key for key in source if key not in copied)
    return Plan(
        source=source.name,
        module=type(module).__name__,
        copied=copied,
        filled=filled,
        skipped=skipped,
        untouched=tuple(name for name in reasons if name not in source),
        reasons=reasons,
        notes=(*source.notes, *epsilon_notes(source, module, sources, sides.places)),
        preprocessing=str(source.preprocessing) if source.preprocessing else None,
    )


def _absent(slot: Slot, sources: Mapping[str, str], source: Source) -> float | None:
    """The constant for a weight that the layer's Keras counterpart does without."""
    if source.layout != "keras" or slot.layout is None or slot.layer not in sources:
        return None
    return None if slot.layout.role in source.layers[sources[slot.layer]] else slot.layout.absent


def _no_source(slot: Slot, where: Places) -> str:
    if slot.layout is None:
        return "no Keras layer kind is known for it"
    return f"the source has no {where.keras_names.get(slot.layer, slot.layer)}/{slot.layout.role}"


def _refuse_leftovers(plan: Plan) -> None:
    if left := (*plan.skipped, *plan.untouched):
        raise BridgeError(
            f"{plan.source}: strict, but {len(plan.skipped)} tensors are skipped and {len(plan.untouched)} parameters "
            f"untouched, first {left[0]}: {plan.reasons[left[0]]}."
        )
