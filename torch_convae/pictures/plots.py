"""Figures from arrays: curves, pictures side by side, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .colours import class_colours

Array = NDArray[Any]
VOID_COLOUR = (0.0, 0.0, 0.0, 1.0)


def curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses and figures over the epochs of all stages, the stages marked."""
    names = list(dict.fromkeys(name for line in history for name, value in line.items() if isinstance(value, float)))
    losses = [name for name in names if name.endswith("loss")]
    panels = [panel for panel in (losses, [name for name in names if name not in losses]) if panel]
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for axis, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for name in panel:
            for stage in dict.fromkeys(line["stage"] for line in history):
                points = [
                    (x, line[name]) for x, line in enumerate(history, 1) if line["stage"] == stage and name in line
                ]
                label = name if stage == _first_stage(history, name) else None
                axis.plot(
                    *zip(*points, strict=True), ".-", color=f"C{names.index(name)}", label=label
                ) if points else None
        for x in range(2, len(history) + 1):
            if history[x - 1]["stage"] != history[x - 2]["stage"]:
                axis.axvline(x - 0.5, color="0.8", zorder=0)
        for stage in dict.fromkeys(line["stage"] for line in history):
            where = [x for x, line in enumerate(history, 1) if line["stage"] == stage]
            axis.text(
                sum(where) / len(where), 1.01, stage, transform=axis.get_xaxis_transform(), ha="center", color="0.4"
            )
        axis.set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return figure


def _first_stage(history: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next(line["stage"] for line in history if name in line)


def rows(titled: Mapping[str, Array]) -> Figure:
    """Rows of images (N, H, W) of 0..1 or (N, H, W, 3), each with its title."""
    count = min(len(images) for images in titled.values())
    figure = Figure(figsize=(1.4 * count, 1.5 * len(titled)), layout="constrained")
    axes = figure.subplots(len(titled), count, squeeze=False)
    for line, (title, images) in zip(axes, titled.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    return figure


def masks(images: Array, truth: Array, predicted: Array, classes: Sequence[str]) -> Figure:
    """Images (N, H, W, 3), their masks and the predicted ones (N, H, W), in the colours of a legend. Void is black."""
    colours = ListedColormap([*map(tuple, class_colours(len(classes)) / 255), VOID_COLOUR])
    figure = Figure(figsize=(2.2 * len(images) + 1.6, 5.2), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for line, title, pictures in zip(axes, ("image", "truth", "predicted"), (images, truth, predicted), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            if picture.ndim == 2 and title != "image":
                shown = np.minimum(picture, len(classes))
                axis.imshow(shown, cmap=colours, vmin=0, vmax=len(classes), interpolation="nearest")
            else:
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    handles = [Patch(color=colours(index), label=name) for index, name in enumerate((*classes, "void"))]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def values(truth: Array, predicted: Array, names: Sequence[str]) -> Figure:
    """Predicted values (N, K) over true ones, a panel for each of the names."""
    figure = Figure(figsize=(3.2 * len(names), 3.2), layout="constrained")
    for index, (axis, name) in enumerate(zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True)):
        low, high = float(truth[:, index].min()), float(truth[:, index].max())
        axis.plot([low, high], [low, high], color="0.8", zorder=0)
        axis.plot(truth[:, index], predicted[:, index], ".", markersize=3)
        axis.set(title=name, xlabel="true", ylabel="predicted")
    return figure


def confusion(counts: Array, classes: Sequence[str]) -> Figure:
    """A confusion matrix (truth, prediction) as shares of each true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.45 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="true", title="of each true class, in %")
    return figure
