"""python docs/compare_runs.py FIGURE OUT.png RUN RUN ...: a figure of several runs, epoch by epoch."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path

from matplotlib.figure import Figure


def main(figure: str, out: str, *runs: str) -> None:
    """Draw `figure` (val_mean_iou, say) of every run's metrics.jsonl to OUT.png and print the same numbers."""
    curves = {Path(run).name: [json.loads(line) for line in (Path(run) / "metrics.jsonl").open()] for run in runs}
    drawing = Figure(figsize=(6, 3.5), layout="constrained")
    axis = drawing.subplots()
    for name, lines in curves.items():
        axis.plot(range(1, len(lines) + 1), [line[figure] for line in lines], ".-", label=name)
    axis.set(xlabel="epoch", ylabel=figure, ylim=(0, None))
    axis.legend()
    drawing.savefig(out, dpi=100)
    print(f"| epoch | {' | '.join(curves)} |")
    print("|---|" + "---|" * len(curves))
    for epoch, lines in enumerate(zip_longest(*curves.values()), 1):
        print(f"| {epoch} | {' | '.join(f'{line[figure]:.3f}' if line else '' for line in lines)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
