"""One layer proved, or the reason why it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..layers.layouts import KINDS, RECURRENT, Layout
from ..layers.recurrent import computed_by_module, of_its_time, says_gates, usual_gates
from ..matching.notes import NORMALISATIONS, other_axis
from ..matching.slots import tensor_of
from ..plan import Copy
from ..source import Array, Source
from .cases import Layer, case_of, weights_of
from .numbers import placed
from .report import Proof, Verdict
from .trial import Case, answer
from .trials import TRIALS, order_remark
from .windows import container_remark, misfit, padding_remark

LEFT_OUT = "left out by skip"
UNSURE = "one of gamma and beta is there, and the file does not say which"
ROUNDING = 1e-5  # what a forward that computes in float32 may lose, relative to the largest output


class Unanswered(Exception):
    """Why a module gives nothing for what it is asked."""


def prove(layer: Layer, source: Source, module: nn.Module, epsilon: float | None, tolerance: float) -> Proof:
    """Whether one layer of the source computes in Keras what its part of the module computes."""
    if not layer.copies:
        return Proof(layer.name, layer.kind, "", "not proved", reason=next(iter(layer.missing.values()), ""))
    if source.layout == "torch":
        wrong = _without_place(layer, source) or _without_source(layer, module)
        return _compared(layer, {copy.target: source[copy.source] for copy in layer.copies}, module, "", wrong)
    weights = weights_of(layer, source, module)

    def compare(why: str) -> Proof:
        return _compared(layer, _placed(layer, weights, module), module, why, _without_place(layer, source))

    if LEFT_OUT in layer.missing.values():
        return compare("parts of it are left out by skip")
    if layer.kind not in TRIALS or layer.place is None:
        return compare(f"there is no reference for {layer.kind}")
    case = case_of(layer, source, module, weights, epsilon)
    try:
        proof = _computed(layer, case, module, source, tolerance)
    except Unanswered as error:
        proof = compare(f"it does not run alone ({error})")
    doubt = UNSURE if layer.name in source.unsure else _other_gates(layer, source, module)
    if proof.verdict == "same" and doubt:
        return replace(proof, verdict="not proved", reason=doubt)
    return proof


def _other_gates(layer: Layer, source: Source, module: nn.Module) -> str:
    """That a module was built with other gates than those of its Keras, where the file says nothing of them."""
    if layer.kind not in RECURRENT or says_gates(source, layer.name, layer.kind):
        return ""
    mine = computed_by_module(module.get_submodule(layer.module))["recurrent_activation"]
    usual = usual_gates(source, layer.name, layer.kind)
    return "" if usual in (None, mine) else f"its gates are {mine}; {of_its_time(source, layer.name, layer.kind)}"


def _computed(layer: Layer, case: Case, module: nn.Module, source: Source, tolerance: float) -> Proof:
    """The best of the layer's trials."""
    proof = Proof(layer.name, case.kind, layer.module, "differs")
    best = _best(case, tolerance)
    if best is None:
        return replace(proof, reason="no output has the shape of Keras's")
    difference, scale, how = best
    if np.isfinite(difference):
        proof = replace(proof, difference=difference, scale=scale)
    close = difference <= tolerance * scale
    wrong = _without_place(layer, source) if close else _wrong_numbers(layer, case, module, source)
    other = "" if close else _other_computation(case)
    rounded = difference <= ROUNDING * scale and bool(
        np.isclose(_epsilon(case), case.config.get("epsilon", 0), rtol=1e-2)
    )
    if wrong or (other and not rounded):
        return replace(proof, reason=wrong or other)
    if reason := misfit(case):
        return replace(proof, reason=reason)
    done = "; ".join(dict.fromkeys(copy.how for copy in layer.copies if copy.how))
    less = f"but no closer than float32: {other}" if other else ""
    after = f"after: {done}" if done else ""
    places = other_axis(source, layer.name) if layer.kind in NORMALISATIONS else ""
    axes = f"but Keras normalises {places}: right only where the module turns the axes" if places else ""
    remarks = filter(None, [less, axes, padding_remark(case, how), container_remark(case), order_remark(case), after])
    return replace(proof, verdict="same", reason="; ".join(remarks))


def _best(case: Case, tolerance: float) -> tuple[float, float, str] | None:
    """The smallest difference, beside the largest output, and the trial that gave it; None where no shape fits."""
    best: tuple[float, float, str] | None = None
    failure: Exception | None = None
    for trial in TRIALS[case.kind](case):
        try:
            given = answer(trial, case.rows)
        except Exception as error:  # a module's own forward raises whatever it likes
            failure = error
            continue
        if given.shape != trial.expected.shape:
            continue
        scale = float(np.abs(trial.expected).max(initial=0.0))
        difference = float(np.abs(given - trial.expected).max(initial=0.0))
        if best is None or not best[0] <= difference:
            best = (difference, scale, trial.how)
        if difference <= tolerance * scale:
            break
    if best is None and failure:
        raise Unanswered(_line(failure)) from failure
    return best


def _compared(layer: Layer, wanted: Mapping[str, Array | None], module: nn.Module, why: str, wrong: str = "") -> Proof:
    """The numbers themselves, where the layer cannot be asked to compute; `wrong` says what has none to compare."""
    proof = Proof(layer.name, layer.kind, layer.module, "not proved", reason=why)
    if wrong:
        return replace(proof, verdict="differs", reason=wrong)
    largest, scale, same = 0.0, 0.0, True
    for copy in layer.copies:
        array = wanted[copy.target]
        if array is None:
            return proof
        own = _own(module, copy)
        rounded = torch.from_numpy(array).to(tensor_of(module, copy.target).dtype).double().numpy()
        if own.shape != rounded.shape:
            return proof
        same = same and np.array_equal(own, rounded, equal_nan=True)
        both = np.isfinite(own) & np.isfinite(rounded)  # what is no number on either side has no size to tell
        largest = max(largest, float(np.abs(own - rounded).max(initial=0.0, where=both)))
        scale = max(scale, float(np.abs(rounded).max(initial=0.0, where=both)))
    verdict: Verdict = "same" if same else "differs"
    why = f"the numbers were compared: {why}" if why else "the numbers were compared"
    return Proof(layer.name, layer.kind, layer.module, verdict, largest, scale, why)


def _placed(layer: Layer, weights: Mapping[str, Array], module: nn.Module) -> dict[str, Array | None]:
    """What the parameters should hold, by the table that is not the loader's."""
    found: dict[str, Array | None] = {}
    for copy in layer.copies:
        role, parameter, shape = layer.roles[copy.source], copy.target.rpartition(".")[2], _own(module, copy).shape
        kept = layer.kept and layer.kind == "LayerNormalization"
        found[copy.target] = (
            weights[role] if kept else placed(layer.kind, role, parameter, weights[role], shape, *layer.maps)
        )
    return found


def _wrong_numbers(layer: Layer, case: Case, module: nn.Module, source: Source) -> str:
    """Which of a layer's numbers are not the file's, and what is there instead; "" where all are right."""
    if reason := _without_place(layer, source):
        return reason
    expected = _placed(layer, case.weights, module)
    for copy in layer.copies:
        wanted, own = expected[copy.target], _own(module, copy)
        if wanted is None or np.array_equal(own, wanted):
            continue
        if not np.isfinite(wanted).all():
            return f"{copy.source} holds numbers that are not finite"
        for other, array in expected.items():
            if other != copy.target and array is not None and np.array_equal(own, array):
                return f"{copy.target} holds what belongs to {other}"
        return f"{copy.target} {_unlike(own, wanted, copy, source)}"
    return ""


def _without_place(layer: Layer, source: Source) -> str:
    """Why one of the layer's weights is nowhere in the module; "" where all are, or where it changes nothing."""
    for key, reason in layer.missing.items():
        adds = layer.roles[key] in ("bias", "beta")
        if reason != LEFT_OUT and not (adds and not np.any(source[key])):
            return reason
    return ""


def _without_source(layer: Layer, module: nn.Module) -> str:
    """Which parameter of a layer the source says nothing of, though the layer computes with it."""
    if layer.place is None or LEFT_OUT in layer.missing.values():
        return ""
    copied, absent = {copy.target for copy in layer.copies}, {each.parameter: each.absent for each in _table(layer)}
    for parameter, slot in layer.place.slots.items():
        if slot.target in copied or not slot.counts:
            continue
        nothing = absent.get(parameter)
        if nothing is None or bool((tensor_of(module, slot.target) != nothing).any()):
            return f"the source has nothing for {slot.target}"
    return ""


def _table(layer: Layer) -> tuple[Layout, ...]:
    return KINDS[layer.place.kinds[0]] if layer.place else ()


def _other_computation(case: Case) -> str:
    """What a module does otherwise with the right numbers."""
    said = case.config.get("epsilon")
    if said is not None and _epsilon(case) != said:
        return f"the module has eps={_epsilon(case):g}, Keras epsilon={said:g}"
    return "the numbers are the file's, but the module computes something else with them"


def _epsilon(case: Case) -> float:
    return float(getattr(case.module, "eps", 0))


def _unlike(own: Array, wanted: Array, copy: Copy, source: Source) -> str:
    """What a parameter holds instead of the file's numbers."""
    differing = own != wanted
    one, other = own[differing], wanted[differing]
    # Sums of powers are those of any order, and are found without sorting a hundred million numbers.
    if all(np.isclose((one**power).sum(), (other**power).sum(), rtol=1e-9, atol=0) for power in (2, 4)):
        return "holds the file's numbers in another order"
    whose = _whose(own, copy, source) if 2 * one.size > own.size else None
    return f"holds the numbers of {whose}" if whose else f"differs from the file in {one.size} of {own.size} numbers"


def _whose(own: Array, copy: Copy, source: Source) -> str | None:
    """The array of the source that a parameter holds instead of its own, among those of the same shape."""
    for key, stored in source.stored.items():
        if key != copy.source and stored.shape == copy.from_shape:
            values = copy.transform.apply(source[key]).double().numpy()
            if values.shape == own.shape and np.array_equal(np.float32(values), np.float32(own)):
                return key
    return None


def _own(module: nn.Module, copy: Copy) -> Array:
    """The module's numbers where the copy went."""
    tensor = tensor_of(module, copy.target).detach().cpu().double().numpy()
    return tensor if copy.rows is None else tensor[list(copy.rows)]


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
