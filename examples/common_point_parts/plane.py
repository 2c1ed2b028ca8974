"""Draws gradient descent in the plane of two weights."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from common_point_parts import drawing
from common_point_parts.drawing import COLORS, GREY, INK, JOINT, MARKS, META, RANDOM
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

KNOWN, NEW = ("T1", "T2", "T3"), "T4"
NAMES = {
    RANDOM: ("random θ", (0, -16)),
    JOINT: ("trained on all", (-10, -4)),
    META: ("meta-learned θ", (0, -20)),
}


class Scene(NamedTuple):
    """All that the pictures show.

    Attributes:
        slopes: `[columns]`, offsets: `[rows]`, where losses are known.
        losses: by task `[rows, columns]`, the support loss there.
        threshold: float, the loss below which a task is learned.
        best: by task `(slope, offset)`, the weights that fit it exactly.
        starts: by start `(slope, offset)`.
        ways: by task and start `[steps + 1, 2]`, the weights until it is learned.
        path: `[epochs + 1, 2]`, what is meta-learned, over meta-training.
        short: for each of them by task `[6, 2]`, five inner steps from there.
        epoch: int, meta-steps of an epoch.
    """

    slopes: Any
    offsets: Any
    losses: dict[str, Any]
    threshold: float
    best: dict[str, Any]
    starts: dict[str, Any]
    ways: dict[str, dict[str, Any]]
    path: Any
    short: list[dict[str, Any]]
    epoch: int


def plot(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """Three panels: ways from random weights, meta-training, and the new task."""
    figure, panels = plt.subplots(
        1, 3, figsize=(15.5, 5.2), sharey=True, layout="constrained"
    )
    titles = (
        "1  From random θ, a long way to each task",
        "2  Meta-training moves θ to the point common to all",
        "3  A new task T4, learned in a few steps",
    )
    for axes, title in zip(panels, titles):
        _weights(axes, scene, title)
    panels[1].set_ylabel("")
    panels[2].set_ylabel("")
    for axes, start in zip(panels, (RANDOM, META)):
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.ways[name][start], COLORS[name])
        drawing.corner(axes, _counts(scene, KNOWN, start))
    _start(panels[0], RANDOM, scene.starts[RANDOM])
    _meta_training(panels[1], scene, len(scene.path) - 1)
    panels[1].plot(*scene.path[::4].T, "o", color=INK, ms=3.5)
    _start(panels[1], JOINT, scene.starts[JOINT], label=False)
    _race(panels[2], scene, None)
    figure.legend(handles=_legend(scene), loc="outside lower center", ncols=6)
    return drawing.png(figure, path)


def animate(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """The same as a film."""
    return drawing.gif(_frames(scene), path)


def _frames(scene: Scene) -> Iterator[tuple[Any, int]]:
    last = max(len(scene.ways[name][RANDOM]) for name in KNOWN) - 1
    for k in drawing.pace(last, 14):
        figure, axes = _frame(
            scene, "1  From random θ", "Gradient descent on three tasks, step by step"
        )
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.ways[name][RANDOM][: k + 1], COLORS[name])
        _start(axes, RANDOM, scene.starts[RANDOM])
        drawing.corner(axes, _counts(scene, KNOWN, RANDOM, k))
        yield figure, 2500 if k == last else 300
    last = len(scene.path) - 1
    for epoch in drawing.pace(last, 18):
        figure, axes = _frame(
            scene,
            "2  Meta-training",
            "θ moves to where five steps get furthest on every task",
        )
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.short[epoch][name], COLORS[name])
        _meta_training(axes, scene, epoch)
        drawing.corner(axes, [(f"meta-step {scene.epoch * epoch}", INK)])
        yield figure, 2500 if epoch == last else 300
    last = max(map(len, scene.ways[NEW].values())) - 1
    for k in drawing.pace(last, 14):
        figure, axes = _frame(
            scene, "3  A new task", "The same gradient descent on T4, from three starts"
        )
        _race(axes, scene, k)
        yield figure, 4000 if k == last else 400


def _frame(scene: Scene, title: str, caption: str) -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(7.2, 5.5), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left", weight="bold", fontsize=15)
    _weights(axes, scene, caption)
    return figure, axes


def _weights(axes: Any, scene: Scene, title: str) -> None:
    """Axes of the two weights, with one scale: right angles look right."""
    axes.set(xlabel="first weight: slope", ylabel="second weight: offset")
    axes.set(xlim=scene.slopes[[0, -1]], ylim=scene.offsets[[0, -1]])
    axes.set_title(title, loc="left")
    axes.set_aspect("equal")
    axes.grid(alpha=0.2)


def _task(axes: Any, scene: Scene, name: str) -> None:
    """The valley of a task's loss, where it counts as learned, and its best weights."""
    color, grid = COLORS[name], (scene.slopes, scene.offsets, scene.losses[name])
    for times, alpha in ((50, 0.1), (10, 0.15), (1, 0.5)):
        level = [-1.0, times * scene.threshold]
        axes.contourf(*grid, level, colors=[color], alpha=alpha)
    axes.plot(*scene.best[name], "X", color=color, ms=8, mec="white", zorder=5)
    axes.annotate(
        name,
        scene.best[name],
        xytext=(9, 6),
        textcoords="offset points",
        color=color,
        weight="bold",
        fontsize=11,
        zorder=7,
    )


def _way(axes: Any, way: Any, color: str) -> None:
    """Steps of gradient descent: a dot after each."""
    axes.plot(way[:, 0], way[:, 1], "-o", color=color, lw=1.4, ms=3, zorder=4)


def _start(axes: Any, name: str, place: Any, *, label: bool = True) -> None:
    axes.plot(*place, ls="", mec="white", zorder=6, **MARKS[name])
    if label:
        text, offset = NAMES[name]
        axes.annotate(
            text,
            place,
            xytext=offset,
            textcoords="offset points",
            color=MARKS[name]["color"],
            ha="right" if name == JOINT else "center",
            zorder=7,
        )


def _meta_training(axes: Any, scene: Scene, epoch: int) -> None:
    axes.plot(*scene.path[: epoch + 1].T, color=INK, lw=2.2)
    _start(axes, RANDOM, scene.starts[RANDOM])
    _start(axes, META, scene.path[epoch])


def _race(axes: Any, scene: Scene, k: int | None) -> None:
    """The new task from every start, up to step k."""
    _task(axes, scene, NEW)
    for name in MARKS:
        way = scene.ways[NEW][name]
        _way(axes, way[: None if k is None else k + 1], MARKS[name]["color"])
        _start(axes, name, scene.starts[name])
    lines = [
        (f"{name}: {_count(scene.ways[NEW][name], k)}", MARKS[name]["color"])
        for name in (META, JOINT, RANDOM)
    ]
    drawing.corner(axes, lines)


def _counts(scene: Scene, names: Any, start: str, k: int | None = None) -> list[Any]:
    return [
        (f"{name}: {_count(scene.ways[name][start], k)}", COLORS[name])
        for name in reversed(names)
    ]


def _count(way: Any, k: int | None) -> str:
    last = len(way) - 1
    if k is None or k >= last:
        return f"learned after {last} step{'s' if last != 1 else ''}"
    return f"step {k}"


def _legend(scene: Scene) -> list[Any]:
    epoch, loss = scene.epoch, scene.threshold
    return [
        Line2D([], [], color=GREY, ls="", marker="X", ms=8, label="a task's best θ′"),
        Patch(color=GREY, alpha=0.6, label=f"learned: loss below {loss:g}"),
        Patch(color=GREY, alpha=0.2, label=f"below {10 * loss:g}, {50 * loss:g}"),
        Line2D([], [], color=GREY, marker="o", ms=3, label="gradient steps on a task"),
        Line2D(
            [],
            [],
            color=INK,
            lw=2.2,
            marker="o",
            ms=3.5,
            label=f"meta-training, a dot every {4 * epoch} steps",
        ),
        Line2D([], [], ls="", label=JOINT, **MARKS[JOINT]),
    ]
