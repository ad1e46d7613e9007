"""python docs/vae_gru_jump.py OUT.png RUN RUN ...: the training loss of vae-gru runs behind their first stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure


def main(out: str, *runs: str) -> None:
    """Draw the losses, the last stage marked, and print those of the last epoch of `head` and of `finetune`."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    for run in runs:
        lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").open()]
        lines = [line for line in lines if line.get("stage") in ("head", "finetune") and "train_loss" in line]
        losses = [line["train_loss"] for line in lines]
        before = sum(line["stage"] == "head" for line in lines)
        axis.plot(range(1, len(losses) + 1), losses, ".-", label=Path(run).name)
        after = " ".join(f"{loss:.4f}" for loss in losses[before:])
        print(f"{Path(run).name}: head ends at {losses[before - 1]:.4f}, finetune {after}")
    axis.axvline(before + 0.5, color="0.8", zorder=0)
    axis.set(xlabel="epoch of head, then of finetune", ylabel="train_loss", yscale="log")
    axis.legend()
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
