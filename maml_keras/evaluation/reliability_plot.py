"""Draws reliability diagrams; needs matplotlib (`pip install maml_keras[plot]`)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from maml_keras.evaluation.calibration import BINS, Calibration
from maml_keras.evaluation.plots import saved, subplots


def plot_reliability(
    found: Mapping[str, Calibration],
    path: str | pathlib.Path,
    *,
    step: int = -1,
) -> pathlib.Path:
    """Accuracy over confidence, and how often each confidence occurs.

    A bar above the diagonal is a bin in which the model is right more often than it
    says; a bar below, one in which it is too sure. Bins with fewer than ten queries are
    pale.

    Args:
        found: a `Calibration` by name, a column of panels for each.
        path: the PNG to write.
        step: int, the adaptation step; -1 for the last.

    Returns:
        The path.

    >>> import tempfile
    >>> statistics = np.random.default_rng(0).random([3, 1, 3 * BINS + 3])
    >>> found = Calibration(statistics, np.zeros([3, 1], bool))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_reliability({"maml": found}, pathlib.Path(folder, "a.png")).name
    'a.png'
    """
    figure, panels = subplots(
        2,
        len(found),
        figsize=(0.6 + 3.4 * len(found), 5.0),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=[3, 1],
    )
    edges = np.linspace(0.0, 1.0, BINS + 1)
    middles, width = (edges[1:] + edges[:-1]) / 2, 1.0 / BINS
    for (name, one), (above, below) in zip(found.items(), panels.T):
        bins = one.bins(step)
        some = bins["count"] > 0
        colours = np.where(bins["count"] >= 10, "C0", "lightsteelblue")[some]
        above.bar(
            middles[some],
            bins["accuracy"][some],
            width,
            color=colours,
            edgecolor="white",
            label="accuracy in the bin",
        )
        above.plot(
            bins["confidence"][some],
            bins["accuracy"][some],
            "o",
            color="black",
            ms=3,
            label="at its mean confidence",
        )
        above.plot([0, 1], [0, 1], "--", color="0.4", label="as sure as right")
        above.set_title(
            f"{name}\nECE {one.error(step):.1%} ± {one.half_width(step):.1%}"
        )
        below.bar(middles, bins["count"] / bins["count"].sum(), width, color="0.6")
        below.set_xlabel("confidence")
        for axes in (above, below):
            axes.set_xlim(0, 1)
            axes.grid(alpha=0.3)
    panels[0][0].set_ylim(0, 1)
    panels[0][0].set_ylabel("accuracy")
    panels[1][0].set_ylabel("queries")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(3, len(found)))
    return saved(figure, path)
