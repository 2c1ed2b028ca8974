"""Draws a search: the metric over each searched setting; needs matplotlib."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from maml_keras.evaluation.plots import saved, subplots
from maml_keras.experiments import trials
from maml_keras.experiments.search_space import Choices, Interval
from maml_keras.experiments.tuned import Tuned, is_whole

# Panels in a row.
MOST = 3


def plot(found: Tuned, path: str | pathlib.Path) -> pathlib.Path:
    """The metric of each trial over each setting, a panel for each setting.

    Filled points trained to their end, with the 95% interval over tasks. Hollow points
    were stopped early, crosses at the edge diverged, and a star is the best trial.

    Args:
        found: the search.
        path: the PNG to write.

    Returns:
        The path.
    """
    names = [
        name
        for name, values in found.space.items()
        if isinstance(values, Interval) or len(values.values) > 1
    ]
    columns = min(MOST, len(names))
    rows = -(-len(names) // columns)
    figure, panels = subplots(
        rows,
        columns,
        figsize=(1.4 + 3.6 * columns, 0.8 + 3.2 * rows),
        sharey=True,
        squeeze=False,
    )
    for axes in panels.ravel()[len(names) :]:
        axes.set_axis_off()
    for name, axes in zip(names, panels.ravel()):
        _panel(axes, found, name)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"query {found.metric}, {found.num_tasks} validation tasks")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[0]))
    return saved(figure, path)


def _panel(axes: Any, found: Tuned, name: str) -> None:
    values = found.space[name]
    place: Callable[[Any], float] = float
    if isinstance(values, Choices):
        order = {value: i for i, value in enumerate(values.values)}
        place = order.__getitem__
        axes.set_xticks(range(len(order)), list(map(str, order)))
    elif values.log:
        axes.set_xscale("log")
    groups: dict[str, list[trials.Outcome]] = {"whole": [], "part": [], "lost": []}
    for outcome in found.outcomes:
        whole = is_whole(outcome, found.epochs)
        lost = outcome.end == trials.DIVERGED
        groups["lost" if lost else "whole" if whole else "part"].append(outcome)
    for key, style in {
        "whole": {"fmt": "o", "color": "C0", "label": "whole training"},
        "part": {"fmt": "o", "color": "C0", "mfc": "white", "label": "ended early"},
    }.items():
        if groups[key]:
            x = [place(outcome.changes[name]) for outcome in groups[key]]
            means = [outcome.mean for outcome in groups[key]]
            halves = [outcome.half_width for outcome in groups[key]]
            axes.errorbar(x, means, yerr=halves, elinewidth=1, ms=5, **style)
    if groups["lost"]:
        x = [place(outcome.changes[name]) for outcome in groups["lost"]]
        # At the bad edge of the panel, whatever its limits are.
        edge = np.full(len(x), 0.02 if found.higher_is_better else 0.98)
        axes.plot(
            x,
            edge,
            "x",
            color="C3",
            label="diverged",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    best = found.best
    axes.plot(
        place(best.changes[name]),
        best.mean,
        "*",
        color="C1",
        ms=14,
        label="best",
        zorder=3,
    )
    if not found.higher_is_better:
        axes.set_yscale("log")
