"""A load proved without Keras: every layer computes with random numbers what Keras's layer computes."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from torch import nn

from .apply import Weights, load, source_of
from .arguments import check_module, check_number
from .errors import BridgeError
from .flattening.flatten import doubts, flattened
from .matching.match import planned, prepared
from .matching.slots import tensor_of, unlike_keras
from .options import Choices, Options
from .plan import Plan
from .proof.adapted import as_adapted
from .proof.cases import layers_of
from .proof.layers import prove
from .proof.live import keras_outputs
from .proof.outputs import Recorded, compared, recorded
from .proof.report import Proof, Report
from .source import Array, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Unpack

__all__ = ["Proof", "Report", "verify", "verify_file"]


def verify(
    module: nn.Module,
    source: Weights,
    *,
    reference: str | PathLike[str] | Mapping[str, Array] | None = None,
    keras: bool = False,
    epsilon: float | None = None,
    tolerance: float = 1e-8,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    **choices: Unpack[Choices],
) -> Report:
    """Whether the module computes what the source's layers compute, layer by layer; nothing is loaded or changed.

    The options are those of `load` and should be the same ones: they say which layer belongs where. For each
    of these the module's own layer runs on random input in float64, and so does a NumPy reference of Keras's
    layer with the file's numbers. `epsilon` is that of normalisations where the file does not say it
    (otherwise Keras's default is taken). `tolerance` is the difference allowed, relative to the largest output.

    `reference` holds inputs and outputs of the Keras model, recorded anywhere: an .npz or arrays, called x or
    input and y or output (x_0, x_1, ... for several), channels last. The whole module is run and held against
    them, within `rtol` and `atol`. `keras=True` records them now, from the Keras model in the source's file. What
    `flip_input`, `in_channels` and `classes` change is changed in the record, too, as far as outputs are kept.

    Refused: what `load` refuses, a reference that cannot be read or fed to the module, and `keras` where Keras
    is not installed or the file holds no model.
    """
    check_module(module)
    for name, number in (("tolerance", tolerance), ("rtol", rtol), ("atol", atol)):
        check_number(name, number, zero=True)
    if epsilon is not None:
        check_number("epsilon", epsilon)
    options = Options.of(choices)
    original = source_of(source, options)
    given = prepared(original, module, options)
    plan = planned(given, module, options)
    bare = getattr(module, "_orig_mod", module)  # torch.compile(module) wraps it
    for copy in plan.copied.values():
        if tensor_of(bare, copy.target).is_meta:
            raise BridgeError(f"{copy.target} is on the meta device and has no numbers. Load the module first.")
    found = layers_of(given, bare, plan, options)
    layers = tuple(prove(layer, given, bare, epsilon, tolerance) for layer in found)
    records: list[Recorded] = [] if reference is None else [recorded(reference)]
    if keras:
        records.append(keras_outputs(original, grey_images=options.in_channels is not None))
    records = [as_adapted(record, original, options) for record in records]
    part = bare.get_submodule(options.prefix.strip("."))
    outputs = tuple(proof for record in records for proof in compared(part, record, rtol, atol))
    if reason := unlike_keras(part):
        outputs = (Proof("the whole", type(part).__name__, options.prefix, "differs", reason=reason), *outputs)
    report = Report(plan, layers, outputs, tuple(_notes(given, plan, options)))
    return replace(report, plan=replace(plan, verified=report.ok and not _unproved(report)))


def verify_file(
    source: Weights,
    module: nn.Module,
    *,
    weights: Weights | None = None,
    reference: str | PathLike[str] | Mapping[str, Array] | None = None,
    keras: bool = False,
    epsilon: float | None = None,
    **choices: Unpack[Choices],
) -> Report:
    """The proof of a module that is first loaded: with the source, or with `weights` that were converted from it.

    The rest is as for `verify`. Of the choices only `prefix` is for both files.
    """
    if weights is None:
        load(module, source, **choices)
    else:
        load(module, weights, prefix=choices.get("prefix", ""))
    return verify(module, source, reference=reference, keras=keras, epsilon=epsilon, **choices)


def _unproved(report: Report) -> bool:
    """Whether something was copied that nothing proves."""
    return any(proof.place for proof in report.not_proved)


def _notes(source: Source, plan: Plan, options: Options) -> Iterator[str]:
    """What a person should know beside the figures."""
    known = flattened(source) if options.flatten and source.architecture else {}
    for layer, said in options.flatten.items():
        flat = known.get(layer)
        if flat is None or flat.inferred or flat.mixed or None in flat.shape[-1:]:
            continue
        if (said or (None,))[-1:] != flat.shape[-1:]:  # which places are rows and which are columns moves nothing
            yield f"{layer} takes a flattened {flat.shape} map by the file, {said} by flatten; it is proved with that."
    yield from doubts(source, options)
    if plan.untouched:
        count, first = len(plan.untouched), plan.untouched[0]
        yield f"{count} of the module's parameters have no source, first {first}: {plan.reasons[first]}."
