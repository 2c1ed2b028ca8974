"""Draws the steps, examples and seconds that new tasks take from each start."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common_point_parts import convergence, drawing
from common_point_parts.convergence import SHOTS, SIZES
from common_point_parts.drawing import JOINT, MARKS, META, RANDOM

SHORT = {RANDOM: "random θ", JOINT: "trained on all", META: "meta-learned θ"}


def draw(found: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
    """Writes the picture: a row of panels for each problem."""
    figure = plt.figure(figsize=(12.6, 2.9 * len(found)), layout="constrained")
    parts = figure.subfigures(len(found), squeeze=False)
    for part, (name, results) in zip(parts[:, 0], found.items()):
        _title(part, f"{{}} new {name}", results)
        panels(part.subplots(1, 3, sharey=True), results)
    return drawing.png(figure, folder / "convergence.png")


def frame(results: Any, title: str, grid: tuple[int, int], size: Any) -> Any:
    """The last frame of a film: a figure of the three panels.

    Args:
        results: by start a `Convergence`.
        title: str, with a place for the number of tasks.
        grid: rows and columns of panels.
        size: inches of the film's other frames.
    """
    figure, axes = plt.subplots(*grid, sharey=True, figsize=size, layout="constrained")
    _title(figure, title, results, fontsize=15)
    panels(axes, results)
    return figure


def _title(figure: Any, title: str, results: Any, **style: Any) -> None:
    first = next(iter(results.values()))
    text = (
        f"{title.format(len(first.steps))}, to a loss below {first.threshold:g}: "
        "median, 95% CI"
    )
    figure.suptitle(text, x=0.02, ha="left", weight="bold", **style)


def panels(axes: Any, results: dict[str, convergence.Convergence]) -> None:
    """Steps, examples and milliseconds, a row for each start.

    Args:
        axes: three, side by side or one above the other.
        results: by start a `Convergence`.
    """
    limit = len(next(iter(results.values())).losses) - 1
    steps = {name: result.steps for name, result in results.items()}
    _panel(axes[0], steps, f"gradient steps ({SHOTS} examples)", most=limit)
    examples = {name: result.examples for name, result in results.items()}
    _panel(axes[1], examples, "examples needed", most=SIZES[0])
    seconds = {name: 1000 * result.seconds for name, result in results.items()}
    _panel(axes[2], seconds, "milliseconds", most=None)


def _panel(axes: Any, values: dict[str, Any], label: str, *, most: int | None) -> None:
    """Medians with their intervals; a grey margin holds values that are infinite."""
    medians = {name: convergence.median(found) for name, found in values.items()}
    finite = [v for found in medians.values() for v in found if np.isfinite(v)]
    largest = most or max([*finite, 1])
    never, edge = f"> {most:,}" if most else "never", 2.5 * largest
    smallest = min([*finite, 1])
    axes.set(xscale="log", xlabel=label, xlim=(smallest / 4, 2 * edge))
    if any(not np.isfinite(v) for found in medians.values() for v in found):
        axes.axvspan(1.5 * largest, 2 * edge, color="0.9", zorder=0)
    for row, (name, found) in enumerate(medians.items()):
        middle, low, high = (min(v, edge) for v in found)
        axes.plot([low, high], [-row, -row], color=MARKS[name]["color"], lw=2)
        reached = np.isfinite(found[0])
        ink = {"mec": "white"} if reached else {"mfc": "white"}
        axes.plot(middle, -row, ls="", **{**MARKS[name], **ink})
        # Text near an edge extends inwards.
        share = np.log(middle / smallest * 4) / np.log(edge / smallest * 8)
        axes.annotate(
            convergence.cell(values[name], never),
            (middle, -row),
            xytext=(0, 9),
            textcoords="offset points",
            ha="left" if share < 0.25 else "right" if share > 0.75 else "center",
            color=MARKS[name]["color"],
        )
    axes.set_yticks([-row for row in range(len(medians))], [SHORT[n] for n in medians])
    axes.set_ylim(0.6 - len(medians), 0.9)
    few = (1, 2, 5) if largest / smallest < 50 else (1,)
    ticks = [m * 10.0**k for k in range(-2, 4) for m in few]
    low, high = (1, most) if most else (smallest / 3, edge)
    ticks = [t for t in ticks if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:,g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.2)
