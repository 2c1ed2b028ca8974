"""Draws a stream with its jumps, the error since a jump, and matrices of sequences."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from online_parts import reporting

# Learners of the stream's picture, with their colours.
SHOWN = {
    "pretrained, steps go on": "#D55E00",
    "MAML, window": "#56B4E9",
    "MAML, jumps noticed": "#0072B2",
    "kernel ridge, window": "#009E73",
    "MAML, jumps told": "0.55",
}
# Of these, the ones along one stream; more lines would hide each other.
ALONG = [name for name in SHOWN if not name.startswith("kernel")]
# Readings that a point of the line over time is the mean of, and the longest age.
MEAN_OF, OLDEST = 5, 30
# Learners of the picture of matrices.
MATRICES = [
    "random weights",
    "pretrained",
    "MAML",
    "OML, last layer",
    "MAML, 5 kept",
    "MAML, a copy a task",
]


def stream(
    found: dict[str, list[Any]], first: dict[str, Any], test: Any, path: pathlib.Path
) -> pathlib.Path:
    """The errors along the first stream, and those of all streams since a jump.

    Args:
        found: by learner, for each seed: squared errors `[streams, time]`.
        first: by learner, the `Walked` of the first seed, with its restarts.
        test: the streams.
        path: the PNG to write.
    """
    plt = _pyplot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4.4), layout="constrained", width_ratios=[1.7, 1]
    )
    time = np.arange(test.since.shape[1])
    jumps = time[1:][test.since[0, 1:] == 0]
    for jump in jumps:
        left.axvline(jump, color="0.8", linewidth=5, zorder=0)
    for name in ALONG:
        errors = np.mean([each[0] for each in found[name]], axis=0)
        padded = np.concatenate([errors[: MEAN_OF - 1], errors])
        means = np.convolve(padded, np.ones(MEAN_OF) / MEAN_OF, "valid")
        left.plot(time, means, color=SHOWN[name], linewidth=1.6)
    noticed = time[first["MAML, jumps noticed"].restarts[0]]
    mark = left.get_xaxis_transform()
    left.plot(
        noticed, np.full(len(noticed), 0.02), "^", transform=mark, clip_on=False,
        color=SHOWN["MAML, jumps noticed"], label="a restart (seed 0)",
    )  # fmt: skip
    left.set(
        yscale="log", xlabel="reading", xlim=(0, len(time)),
        ylabel=f"squared error, mean of the last {MEAN_OF}",
    )  # fmt: skip
    left.set_title("One stream; grey bars are jumps that nobody tells", loc="left")
    ages = range(OLDEST + 1)
    jumped = np.cumsum(test.since == 0, axis=1) > 1
    for name, colour in SHOWN.items():
        errors = np.stack(found[name])
        places = [jumped & (test.since == age) for age in ages]
        known = [age for age, place in zip(ages, places) if place.sum() > 1]
        parts = [reporting.interval(errors[:, places[age]]) for age in known]
        means, halves = np.array(parts).reshape([-1, 2]).T
        right.plot(known, means, color=colour, linewidth=1.8, label=name)
        low = np.maximum(means - halves, means / 10)
        right.fill_between(known, low, means + halves, color=colour, alpha=0.15)
    right.set(yscale="log", xlabel="readings since the last jump")
    right.set_title("All streams: mean, 95% interval", loc="left")
    for axes in (left, right):
        axes.grid(alpha=0.2)
    figure.legend(loc="outside lower center", ncol=6, frameon=False)
    return _saved(plt, figure, path)


def matrices(found: dict[str, list[Any]], path: pathlib.Path) -> pathlib.Path:
    """The mean matrix `R` of some learners, a panel for each.

    Args:
        found: by learner, for each seed: floats `[sequences, T, T]`.
        path: the PNG to write.
    """
    plt = _pyplot()
    from matplotlib.colors import LogNorm

    figure, panels = plt.subplots(
        1, len(MATRICES), figsize=(15, 3.2), layout="constrained", sharey=True
    )
    means = {name: np.stack(found[name]).mean(axis=(0, 1)) for name in MATRICES}
    tasks = len(means[MATRICES[0]])
    norm = LogNorm(0.05, 10, clip=True)
    for axes, (name, rows) in zip(panels, means.items()):
        shown = axes.imshow(rows, norm=norm, cmap="viridis_r")
        for i, j in np.ndindex(rows.shape):
            dark = norm(rows[i, j]) > 0.5
            axes.text(
                j, i, _short(rows[i, j]), ha="center", va="center", fontsize=7,
                color="white" if dark else "black",
            )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="error on task")
        axes.set_xticks(range(tasks), range(1, tasks + 1))
        axes.set_yticks(range(tasks), range(1, tasks + 1))
    panels[0].set_ylabel("after learning task")
    figure.colorbar(
        shown, ax=panels, label="mean squared error", fraction=0.02, pad=0.01
    )
    return _saved(plt, figure, path)


def _short(value: float) -> str:
    return f"{value:.1f}" if value > 0.95 else f"{value:.2f}".lstrip("0")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _saved(plt: Any, figure: Any, path: pathlib.Path) -> pathlib.Path:
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
