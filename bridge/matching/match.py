"""Pairing a source with a module: pure, before any tensor moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from ..adaptation import adapted
from ..arguments import check_module
from ..errors import BridgeError
from ..flattening.flatten import OF_ROWS, doubts
from ..keras_files.old_arrays import told
from ..layers.layouts import KINDS, Layout, kind_of_weights
from ..layers.lookalikes import lookalike
from ..layers.normalised import transform_of
from ..layers.recurrent import refusal
from ..layers.transform import Transform, identity
from ..options import Choices, Options, shortened
from ..plan import Copy, Plan
from ..source import Source, split
from .image_notes import image_notes
from .inside import nearest, note_on
from .notes import notes_on
from .sides import Sides, paired
from .slots import Place, Places, Slot, tensor_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


def match(source: Source, module: nn.Module, **choices: Unpack[Choices]) -> Plan:
    """What loading the source into the module would do. Neither is changed or read beyond shapes.

    A source layer goes to the module's layer of the same Keras name: the name the module declares
    (`keras_layers`), the one its naming scheme gives, or its path. `Choices` explains the options.

    Refused: shapes that do not fit, two sources for one place, nothing that matches at all, a
    pattern that matches nothing, layers that compute something else (the gates of a GRU), and with `strict`
    anything skipped or untouched.
    """
    check_module(module)
    if not isinstance(source, Source):
        raise BridgeError(f"match takes what read gave, not one of type {type(source).__name__}: read(path).")
    options = Options.of(choices)
    return planned(prepared(source, module, options), module, options)


def prepared(source: Source, module: nn.Module, options: Options) -> Source:
    """The source with everything done to it that the options say, and what only the module tells of an old file.

    Keras 1 stored some layers in other axes, and a weights-only file does not say which layers these are.
    """
    given = adapted(source, options)
    if given.undecided or (given.keras_version or "").split(".")[0] != "1":
        return given
    sides = paired(given, module, options)
    originals = {split(name)[0]: split(key)[0] for key, name in sides.current.items()}
    kinds = {
        originals[layer]: sides.kinds.get(layer) or sides.places.places[path].kinds[0]
        for layer, path in sides.paths.items()
        if path in sides.places.places and originals[layer] not in given.kinds
    }
    return replace(given, stored=told(given.stored, kinds)) if kinds else given


def planned(source: Source, module: nn.Module, options: Options) -> Plan:
    """The plan for a source that is adapted already."""
    if source.undecided:
        raise BridgeError(f"{source.name}: {source.undecided}")
    for layer, map_ in source.flattened.items():
        if options.flatten.get(layer, map_) != map_:
            raise BridgeError(f"{source.name}: {layer} is read as flattened from {map_}; give flatten to bridge.read.")
    sides = paired(source, module, options)
    copied, reasons = _copies(sides)
    _refuse_misfits(source, copied)
    _refuse_complex(sides, copied)
    if not copied:
        raise BridgeError(_unknown_kind(sides) or _nothing_matches(source, module, sides.places))
    plan = _account(sides, copied, reasons)
    if options.strict:
        _refuse_leftovers(plan)
    return plan


def _copies(sides: Sides) -> tuple[dict[str, Copy], dict[str, str]]:
    """What goes where, and why each other source tensor goes nowhere."""
    copied: dict[str, Copy] = {}
    reasons: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key in sides.source:
        found = list(_copies_of(sides, key))
        targets = [copy.target for copy in found]
        if sides.options.skips((key, split(key)[0], *targets)):
            reasons[key] = "left out by skip"
            continue
        if not found:
            reasons[key] = _no_counterpart(sides, key)
        for copy in found:
            if taken.setdefault(copy.target, key) != key:
                raise BridgeError(
                    f"{key} and {taken[copy.target]} both go to {copy.target}. Rename or skip one of them."
                )
            row = copy.transform.row
            copied[key if row is None else f"{key}[{row}]"] = copy
    return copied, reasons


def _copies_of(sides: Sides, key: str) -> Iterator[Copy]:
    """The targets of one source tensor: one as a rule, two where Keras keeps two biases in one array."""
    layer, role = split(sides.current[key])
    path, stored = sides.paths.get(layer), sides.source.stored[key]
    if path is None:
        return
    if sides.source.layout == "torch":
        slot = sides.places.by_path.get((path, role))
        if slot:
            yield Copy(key, slot.target, identity(stored.shape), stored.shape, slot.shape, stored.how, stored.rows)
        return
    place = sides.places.places.get(path)
    if place is None:
        return
    kind = sides.kinds.get(layer) or place.kinds[0]
    if sides.options.skips((key, split(key)[0])):
        return
    _refuse_other_kind(sides, key, kind, place)
    for layout in KINDS[kind]:
        slot = place.slots.get(layout.parameter)
        if layout.role == role and slot and layout.transforms:
            transform = _transform(sides, key, layout, slot, place, kind)
            if transform:
                yield Copy(key, slot.target, transform, stored.shape, slot.shape, stored.how, stored.rows)


def _refuse_other_kind(sides: Sides, key: str, kind: str, place: Place) -> None:
    layer, role = split(key)
    named = sides.source.kinds.get(layer)
    part = sides.module.get_submodule(place.module)
    if named in KINDS and named not in place.kinds:
        raise BridgeError(
            f"{sides.source.name}: {layer} is a {named} layer, but {place.module} is {type(part).__name__}, which "
            f"takes {' or '.join(place.kinds)}. Keep its initial values with skip {layer!r}."
        )
    reason = refusal(sides.source, layer, kind, part) or lookalike(sides.source, layer, [role], kind)
    if reason:
        raise BridgeError(f"{sides.source.name}: {reason}")


def _transform(sides: Sides, key: str, layout: Layout, slot: Slot, place: Place, kind: str) -> Transform | None:
    source, shape, layer = sides.source, sides.source.shapes[key], split(key)[0]
    transform = transform_of(source, layer, kind, layout, shape, slot.shape)
    if transform is None:
        if len([each for each in KINDS[kind] if each.role == layout.role]) > 1:
            return None  # the other of two biases takes it
        raise BridgeError(
            f"{source.name}: {key} is {shape}, but {slot.target} is {slot.shape}, the {layout.role} of a "
            f"{kind} layer. Keep its initial value with skip {layer!r}."
        )
    if not (place.vector or kind in OF_ROWS):
        return transform
    return sides.maps.unfolded(transform, sides.options, layer, layout.role, shape, slot.shape)


def _no_counterpart(sides: Sides, key: str) -> str:
    layer, role = split(sides.current[key])
    path = sides.paths.get(layer)
    if path is None:
        return f"the module has no layer {layer}" if layer else f"the module has no {role} of its own"
    return f"the module's {path.replace('/', '.')} takes no {role}"


def _refuse_misfits(source: Source, copied: Mapping[str, Copy]) -> None:
    misfits = [copy for copy in copied.values() if not copy.fits]
    if not misfits:
        return
    first = misfits[0]
    becomes = first.transform.shape(first.from_shape)
    shown = (
        f"{first.from_shape} in Keras order, {becomes} in PyTorch order" if source.layout == "keras" else str(becomes)
    )
    if first.rows is not None:
        shown += f" for the rows {list(first.rows)}"
    more = f" {len(misfits) - 1} more do not fit." if len(misfits) > 1 else ""
    raise BridgeError(
        f"{source.name}: {first.source} is {shown}, but {first.target} is {first.to_shape}. Build the module with "
        f"that shape, or keep its initial value with skip {split(first.source)[0]!r}.{more}"
    )


def _refuse_complex(sides: Sides, copied: Mapping[str, Copy]) -> None:
    """PyTorch would drop the imaginary parts."""
    for copy in copied.values():
        kind = sides.source.stored[copy.source].dtype
        if kind.startswith("complex") and not tensor_of(sides.module, copy.target).is_complex():
            raise BridgeError(
                f"{sides.source.name}: {copy.source} holds {kind} numbers, but {copy.target} takes real ones. Keep its "
                f"initial value with skip {split(copy.source)[0]!r}."
            )


def _unknown_kind(sides: Sides) -> str | None:
    """That a layer has its place by name, but is of a class that is not known here; None where no layer is."""
    for key, name in sides.current.items():
        (layer, path), source = (split(key)[0], sides.paths.get(split(name)[0])), sides.source
        kind, roles = source.kinds.get(layer), source.layers[layer]
        unknown = kind is not None and kind not in KINDS and not kind_of_weights(roles, None)
        if path is not None and source.layout == "keras" and not unknown and path not in sides.places.places:
            part = sides.module.get_submodule(f"{sides.options.prefix}.{path.replace('/', '.')}".strip("."))
            return (
                f"{source.name}: {layer} has its place by name, but {path.replace('/', '.')} is a "
                f"{type(part).__name__}, a kind of module that is not known here. Copy its numbers yourself: "
                f"bridge.read gives them."
            )
        if path is not None and (unknown or path not in sides.places.places) and source.layout == "keras":
            return (
                f"{source.name}: {layer} is {kind or 'a layer'} with {', '.join(roles)}, which is not "
                f"known here, and nothing else has a place. Copy its numbers yourself: bridge.read gives them."
            )
    return None


def _nothing_matches(source: Source, module: nn.Module, where: Places) -> str:
    ours = list(dict.fromkeys(slot.layer.replace("/", ".") for slot in where.slots))
    theirs = shortened([layer for layer in source.layers if layer])
    text = f"{source.name} has nothing for {type(module).__name__}: the source holds {theirs}; "
    text += f"the module has {shortened(ours) or 'no parameters'}. "
    for path, part in module.named_modules():
        if path and any(name in source.layers for name, _ in part.named_children()):
            return f"{text}Try prefix={path!r}."
    if model := nearest(list(source.layers), where):
        return f"{text}Try {model.rule}."
    return f"{text}Pair the names with rename or by='order', or check the file."


def _account(sides: Sides, copied: Mapping[str, Copy], reasons: dict[str, str]) -> Plan:
    """The plan: what is copied, and everything else with its reason."""
    module, source = sides.module, sides.source
    done = {id(tensor_of(module, copy.target)) for copy in copied.values()}  # tied weights are filled together
    filled = _filled(sides, copied, done)
    for slot in sides.places.slots:
        if slot.counts and slot.target not in filled and id(tensor_of(module, slot.target)) not in done:
            reasons[slot.target] = _no_source(sides, slot)
    taken = {copy.source for copy in copied.values()}
    inside = (note_on(sides.inside),) if sides.inside else ()
    return Plan(
        source=source.name,
        module=type(module).__name__,
        copied=copied,
        filled=filled,
        skipped=tuple(key for key in source if key not in taken),
        untouched=tuple(name for name in reasons if name not in source),
        reasons=reasons,
        notes=(*source.notes, *inside, *image_notes(source), *doubts(source, sides.options), *_notes(sides, copied)),
        preprocessing=source.preprocessing,
    )


def _notes(sides: Sides, copied: Mapping[str, Copy]) -> list[str]:
    return notes_on(sides.source, sides.module, _places_of(sides, copied), sides.kinds)


def _places_of(sides: Sides, copied: Mapping[str, Copy]) -> dict[str, Place]:
    """The place of each source layer that something is copied from."""
    found: dict[str, Place] = {}
    for copy in copied.values():
        path = sides.paths[split(sides.current[copy.source])[0]]
        if path in sides.places.places:
            found[split(copy.source)[0]] = sides.places.places[path]
    return found


def _filled(sides: Sides, copied: Mapping[str, Copy], done: set[int]) -> dict[str, float]:
    """The constants for weights that the Keras counterparts of the copied layers do without."""
    filled: dict[str, float] = {}
    if sides.source.layout != "keras":
        return filled
    for layer in dict.fromkeys(split(sides.current[copy.source])[0] for copy in copied.values()):
        place, kind = sides.places.places[sides.paths[layer]], sides.kinds.get(layer)
        held = {split(name)[1] for key, name in sides.current.items() if split(name)[0] == layer}
        for layout in KINDS[kind or place.kinds[0]]:
            slot = place.slots.get(layout.parameter)
            if slot is None or layout.absent is None or id(tensor_of(sides.module, slot.target)) in done:
                continue
            if layout.role not in held or layout.beside == layout.role:  # bias_hh stands beside Keras's one bias
                filled[slot.target] = layout.absent
    return filled


def _no_source(sides: Sides, slot: Slot) -> str:
    if any(slot in place.slots.values() for place in sides.places.places.values()):
        layer = sides.places.keras_names.get(slot.layer, slot.layer)
        return f"the source has no {layer}/{_role(sides, slot)}"
    return "no Keras layer kind is known for it"


def _role(sides: Sides, slot: Slot) -> str:
    for place in sides.places.places.values():
        for layout in KINDS[place.kinds[0]]:
            if place.slots.get(layout.parameter) == slot:
                return layout.role
    return slot.parameter


def _refuse_leftovers(plan: Plan) -> None:
    if left := (*plan.skipped, *plan.untouched):
        raise BridgeError(
            f"{plan.source}: strict, but {len(plan.skipped)} tensors are skipped and {len(plan.untouched)} parameters "
            f"untouched, first {left[0]}: {plan.reasons[left[0]]}."
        )
