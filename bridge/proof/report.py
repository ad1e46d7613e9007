"""What a proof found, layer by layer, as values and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..plan import Plan, table

Verdict = Literal["same", "differs", "not proved"]


@dataclass(frozen=True)
class Proof:
    """One comparison: a layer of the source beside its part of the module, or an output of the whole module.

    `name` is the layer's, `kind` its Keras class and `place` the path of the module's part; of an output,
    `kind` is "output" and `place` where it was recorded. `difference` is the largest between the two sides,
    `scale` the largest number; both None where nothing was compared. `reason` says why something differs or
    is not proved, or what should be known about it.
    """

    name: str
    kind: str
    place: str
    verdict: Verdict
    difference: float | None = None
    scale: float | None = None
    reason: str = ""

    @property
    def figure(self) -> str:
        """The difference as a person reads it."""
        return "" if self.difference is None else f"{self.difference:.1e} of {self.scale:.1e}"


@dataclass(frozen=True)
class Report:
    """Every layer of the source and every output that was compared. `print(report)` is a table.

    `plan` is the plan that was proved; its `verified` is true where nothing differs and nothing that was
    copied is left unproved.
    """

    plan: Plan
    layers: tuple[Proof, ...]
    outputs: tuple[Proof, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something was proved and nothing differs. What is not proved is in `not_proved`."""
        every = (*self.layers, *self.outputs)
        return self.first is None and any(proof.verdict == "same" for proof in every)

    @property
    def first(self) -> Proof | None:
        """The first layer that differs, in the source's order; then the first output."""
        return next((proof for proof in (*self.layers, *self.outputs) if proof.verdict == "differs"), None)

    @property
    def not_proved(self) -> tuple[Proof, ...]:
        """The layers that nothing is said about, each with its reason."""
        return tuple(proof for proof in self.layers if proof.verdict == "not proved")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "source": self.plan.source,
            "module": self.plan.module,
            "ok": self.ok,
            "first": self.first.name if self.first else None,
            "layers": [asdict(proof) for proof in self.layers],
            "outputs": [asdict(proof) for proof in self.outputs],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts = {verdict: sum(proof.verdict == verdict for proof in self.layers) for verdict in _VERDICTS}
        said = ", ".join(f"{count} {_VERDICTS[verdict]}" for verdict, count in counts.items())
        lines = [f"{self.plan.source} and {self.plan.module}: {said}"]
        for title, place, proofs in (("layer", "module", self.layers), ("output", "recorded in", self.outputs)):
            rows = [(each.name, each.kind, each.place, each.figure, _said(each)) for each in proofs]
            lines += table([(title, "class", place, "largest difference", "verdict"), *rows])
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


_VERDICTS: dict[Verdict, str] = {"same": "compute the same", "differs": "differ", "not proved": "not proved"}


def _said(proof: Proof) -> str:
    return f"{proof.verdict}: {proof.reason}" if proof.reason else proof.verdict
