"""Draws gradient descent in the plane of two weights."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from common_point_parts import convergence, drawing, totals
from common_point_parts.drawing import (
    COLORS,
    GREY,
    HALO,
    INK,
    JOINT,
    MARKS,
    META,
    RANDOM,
)
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

KNOWN, NEW = ("T1", "T2", "T3"), "T4"
NAMES = {
    RANDOM: ("random θ", (-8, -4), "right"),
    JOINT: ("trained on all", (-8, -4), "right"),
    META: ("meta-learned θ", (6, -17), "left"),
}


class Task(NamedTuple):
    """A task in the plane.

    Attributes:
        best: `(slope, offset)`, the weights that fit it exactly.
        surface: `[offsets, slopes]`, the support loss.
        ways: by start `[steps + 1, 2]`, the path of the weights until the task is
            learned.
        losses: by start `[steps + 1]`, the query loss along the path.
        inner: `[epochs + 1, inner steps + 1, 2]`, the inner loop in meta-training.
        inner_losses: `[epochs + 1, inner steps + 1]`, the query loss in it.
    """

    best: Any
    surface: Any
    ways: dict[str, Any]
    losses: dict[str, Any]
    inner: Any
    inner_losses: Any


class Scene(NamedTuple):
    """The content of the pictures.

    Attributes:
        slopes: `[columns]`, slopes of the grid of losses.
        offsets: `[rows]`, offsets of the grid of losses.
        threshold: float, a task is learned if its loss is below this.
        starts: by start `(slope, offset)`.
        path: `[epochs + 1, 2]`, the meta-learned weights during meta-training.
        epoch: int, meta-steps of an epoch.
        tasks: by name.
        results: by start a `Convergence` of many new tasks.
    """

    slopes: Any
    offsets: Any
    threshold: float
    starts: dict[str, Any]
    path: Any
    epoch: int
    tasks: dict[str, Task]
    results: dict[str, convergence.Convergence]


def draw(scene: Scene, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes all pictures and the film."""
    return [
        plot_gradient_descent(scene, folder / "gradient_descent.png"),
        plot_two_loops(scene, folder / "two_loops.png"),
        plot(scene, folder / "common_point.png"),
        drawing.gif(_frames(scene), folder / "common_point.gif"),
    ]


def plot_gradient_descent(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """One task from random weights: the path in the plane, and the loss over steps."""
    figure, (left, right) = _plane_and_losses()
    _weights(left, scene, "Gradient descent on one task, T1")
    _task(left, scene, "T1")
    _way(left, scene.tasks["T1"].ways[RANDOM], COLORS["T1"])
    _start(left, RANDOM, scene.starts[RANDOM])
    losses = scene.tasks["T1"].losses[RANDOM]
    right.plot(losses, "-o", color=COLORS["T1"], ms=3, lw=1.4)
    right.axhline(scene.threshold, ls="--", color="0.4", lw=1)
    right.text(0, 1.05 * scene.threshold, "learned", va="bottom", color="0.3")
    right.set(xlabel="gradient steps", title="")
    right.set_title(f"Its loss: {len(losses) - 1} steps", loc="left")
    return drawing.png(figure, path)


def plot_two_loops(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """The inner loops at three moments of the outer one, and the loss around them."""
    figure, (left, right) = _plane_and_losses()
    _weights(left, scene, "Two loops: θ moves, copies of it step to tasks")
    for name in KNOWN:
        _task(left, scene, name)
    left.plot(*scene.path.T, color=INK, lw=2.2)
    for epoch in (0, 4, len(scene.path) - 1):
        for name in KNOWN:
            _way(left, scene.tasks[name].inner[epoch], COLORS[name])
        left.plot(*scene.path[epoch], "*", color=INK, ms=15, mec="white", zorder=6)
        left.annotate(
            f"{scene.epoch * epoch}",
            scene.path[epoch],
            xytext=(0, -18),
            textcoords="offset points",
            ha="center",
            weight="bold",
            path_effects=HALO,
        )
    drawing.corner(left, [("★ θ after that many meta-steps", INK)])
    mean = np.mean([scene.tasks[name].inner_losses for name in KNOWN], axis=0)
    steps = scene.epoch * np.arange(len(mean))
    right.plot(steps, mean[:, 0], color=GREY, lw=2, label="at θ itself")
    inner = mean.shape[1] - 1
    label = f"after {inner} inner steps: what is minimised"
    right.plot(steps, mean[:, -1], color=INK, lw=2, label=label)
    right.set(xlabel="meta-steps (outer loop)")
    right.set_title("Mean query loss of T1, T2, T3", loc="left")
    right.legend()
    return drawing.png(figure, path)


def _plane_and_losses() -> Any:
    figure, panels = plt.subplots(
        1, 2, figsize=(11, 4.3), width_ratios=(1.15, 1), layout="constrained"
    )
    panels[1].set(yscale="log", ylabel="query loss (mean squared error)")
    panels[1].grid(alpha=0.2)
    return figure, panels


def plot(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """Three panels: paths from random weights, meta-training, and the new task."""
    figure, panels = plt.subplots(
        1, 3, figsize=(12.6, 4.4), sharey=True, layout="constrained"
    )
    titles = (
        "1  From random θ: long ways",
        "2  θ moves to the point common to all",
        "3  A new task: a few steps",
    )
    for axes, title in zip(panels, titles):
        _weights(axes, scene, title)
    panels[1].set_ylabel("")
    panels[2].set_ylabel("")
    for axes, start in zip(panels, (RANDOM, META)):
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.tasks[name].ways[start], COLORS[name])
        drawing.corner(axes, _counts(scene, KNOWN, start))
    _start(panels[0], RANDOM, scene.starts[RANDOM])
    _meta_training(panels[1], scene, len(scene.path) - 1)
    panels[1].plot(*scene.path[::4].T, "o", color=INK, ms=3.5)
    _start(panels[1], JOINT, scene.starts[JOINT], label=False)
    _race(panels[2], scene, None)
    figure.legend(handles=_legend(scene), loc="outside lower center", ncols=3)
    return drawing.png(figure, path)


def _frames(scene: Scene) -> Iterator[tuple[Any, int]]:
    last = max(len(scene.tasks[name].ways[RANDOM]) for name in KNOWN) - 1
    for k in drawing.pace(last, 14):
        figure, axes = _frame(
            scene, "1  From random θ", "Gradient descent on three tasks, step by step"
        )
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.tasks[name].ways[RANDOM][: k + 1], COLORS[name])
        _start(axes, RANDOM, scene.starts[RANDOM])
        drawing.corner(axes, _counts(scene, KNOWN, RANDOM, k))
        yield figure, 2500 if k == last else 300
    last = len(scene.path) - 1
    for epoch in drawing.pace(last, 18):
        figure, axes = _frame(
            scene,
            "2  Meta-training",
            "θ moves to where five steps lead close to every task",
        )
        for name in KNOWN:
            _task(axes, scene, name)
            _way(axes, scene.tasks[name].inner[epoch], COLORS[name])
        _meta_training(axes, scene, epoch)
        drawing.corner(axes, [(f"meta-step {scene.epoch * epoch}", INK)])
        yield figure, 2500 if epoch == last else 300
    last = max(map(len, scene.tasks[NEW].ways.values())) - 1
    for k in drawing.pace(last, 14):
        figure, axes = _frame(
            scene, "3  A new task", "The same gradient descent on T4, from three starts"
        )
        _race(axes, scene, k)
        yield figure, 4000 if k == last else 400
    yield totals.frame(scene.results, "4  {} new tasks", (3, 1), (7.2, 5.5)), 6000


def _frame(scene: Scene, title: str, caption: str) -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(7.2, 5.5), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left", weight="bold", fontsize=15)
    _weights(axes, scene, caption)
    return figure, axes


def _weights(axes: Any, scene: Scene, title: str) -> None:
    """Axes of the two weights with equal scales, so that right angles look right."""
    axes.set(xlabel="first weight: slope", ylabel="second weight: offset")
    axes.set(xlim=scene.slopes[[0, -1]], ylim=scene.offsets[[0, -1]])
    axes.set_title(title, loc="left")
    axes.set_aspect("equal")
    axes.grid(alpha=0.2)


def _task(axes: Any, scene: Scene, name: str) -> None:
    """The valley of a task's loss, the region of a learned task, the best weights."""
    color, grid = COLORS[name], (scene.slopes, scene.offsets, scene.tasks[name].surface)
    for times, alpha in ((50, 0.1), (10, 0.15), (1, 0.5)):
        level = [-1.0, times * scene.threshold]
        axes.contourf(*grid, level, colors=[color], alpha=alpha)
    axes.plot(*scene.tasks[name].best, "X", color=color, ms=8, mec="white", zorder=5)
    axes.annotate(
        name,
        scene.tasks[name].best,
        xytext=(9, 6),
        textcoords="offset points",
        color=color,
        weight="bold",
        fontsize=11,
        zorder=7,
        path_effects=HALO,
    )


def _way(axes: Any, way: Any, color: str) -> None:
    """The path of gradient descent, with a dot after each step."""
    axes.plot(way[:, 0], way[:, 1], "-o", color=color, lw=1.4, ms=3, zorder=4)


def _start(axes: Any, name: str, place: Any, *, label: bool = True) -> None:
    axes.plot(*place, ls="", mec="white", zorder=6, **MARKS[name])
    if label:
        text, offset, side = NAMES[name]
        axes.annotate(
            text,
            place,
            xytext=offset,
            textcoords="offset points",
            color=MARKS[name]["color"],
            ha=side,
            zorder=7,
            path_effects=HALO,
        )


def _meta_training(axes: Any, scene: Scene, epoch: int) -> None:
    axes.plot(*scene.path[: epoch + 1].T, color=INK, lw=2.2)
    _start(axes, RANDOM, scene.starts[RANDOM])
    _start(axes, META, scene.path[epoch])


def _race(axes: Any, scene: Scene, k: int | None) -> None:
    """The new task from every start, up to step k."""
    _task(axes, scene, NEW)
    for name in MARKS:
        way = scene.tasks[NEW].ways[name]
        _way(axes, way[: None if k is None else k + 1], MARKS[name]["color"])
        _start(axes, name, scene.starts[name])
    lines = [
        (
            f"{NAMES[name][0]}: {_count(scene.tasks[NEW].ways[name], k)}",
            MARKS[name]["color"],
        )
        for name in (META, JOINT, RANDOM)
    ]
    drawing.corner(axes, lines)


def _counts(scene: Scene, names: Any, start: str, k: int | None = None) -> list[Any]:
    return [
        (f"{name}: {_count(scene.tasks[name].ways[start], k)}", COLORS[name])
        for name in reversed(names)
    ]


def _count(way: Any, k: int | None) -> str:
    last = len(way) - 1
    if k is None or k >= last:
        return f"{'' if k is None else 'learned after '}{last} steps"
    return f"step {k}"


def _legend(scene: Scene) -> list[Any]:
    epoch, loss = scene.epoch, scene.threshold
    line, best = {"color": GREY, "marker": "o", "ms": 3}, {"marker": "X", "ms": 8}
    track = {"color": INK, "lw": 2.2, "marker": "o", "ms": 3.5}
    return [
        Line2D([], [], color=GREY, ls="", label="a task's best θ′", **best),
        Line2D([], [], label="gradient steps on a task", **line),
        Patch(color=GREY, alpha=0.6, label=f"learned: loss below {loss:g}"),
        Patch(color=GREY, alpha=0.2, label=f"loss below {10 * loss:g}, {50 * loss:g}"),
        Line2D([], [], label=f"meta-training, a dot every {4 * epoch} steps", **track),
        Line2D([], [], ls="", label=JOINT, **MARKS[JOINT]),
    ]
