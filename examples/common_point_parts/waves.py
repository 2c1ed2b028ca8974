"""Draws one sinusoid as it is learned step by step, and the average of many."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from common_point_parts import convergence, drawing, totals
from common_point_parts.drawing import MARKS, META, RANDOM
from common_point_parts.totals import SHORT


class Scene(NamedTuple):
    """The content of the pictures.

    Attributes:
        x: `[points]`, truth: `[points]`, the wave.
        support: `(x, y)`, the ten examples.
        fits: by start `[steps + 1, points]`, the network after each step.
        losses: by start `[steps + 1]`, its query loss on this wave.
        results: by start a `Convergence` of many new waves.
        threshold: float, the query loss below which a wave is learned.
    """

    x: Any
    truth: Any
    support: Any
    fits: dict[str, Any]
    losses: dict[str, Any]
    results: dict[str, convergence.Convergence]
    threshold: float


def draw(scene: Scene, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the picture and the film."""
    return [
        plot(scene, folder / "sinusoid.png"),
        drawing.gif(_frames(scene), folder / "sinusoid.gif"),
    ]


def plot(scene: Scene, path: pathlib.Path) -> pathlib.Path:
    """One new wave from two starts, and the loss of many waves from all starts."""
    figure, panels = plt.subplots(1, 3, figsize=(12.6, 4.4), layout="constrained")
    last = len(scene.fits[RANDOM]) - 1
    for axes, start, steps in (
        (panels[0], RANDOM, [0, 10, 100, last]),
        (panels[1], META, [0, 1, 3, 10]),
    ):
        _wave(axes, scene, f"A new sinusoid, from {SHORT[start]}")
        for k, alpha in zip(steps, (0.3, 0.45, 0.7, 1.0)):
            label = f"after {k} step{'s' if k != 1 else ''}"
            style = ":" if k == 0 else "-"
            color = MARKS[start]["color"] if start == META else "#D55E00"
            axes.plot(
                scene.x, scene.fits[start][k], style, color=color, alpha=alpha, lw=2,
                label=f"{label}: loss {scene.losses[start][k]:.2g}",
            )  # fmt: skip
        axes.legend(loc="lower right", fontsize=8.5)
    _losses(panels[2], scene)
    return drawing.png(figure, path)


def _frames(scene: Scene) -> Iterator[tuple[Any, int]]:
    last = len(scene.fits[RANDOM]) - 1
    for k in drawing.pace(last, 30):
        figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
        figure.suptitle(
            f"A new sinusoid from ten examples: gradient step {k}",
            x=0.02, ha="left", weight="bold", fontsize=14,
        )  # fmt: skip
        for axes, start in zip(panels, (RANDOM, META)):
            _wave(axes, scene, f"from {SHORT[start]}")
            color = MARKS[start]["color"] if start == META else "#D55E00"
            axes.plot(scene.x, scene.fits[start][k], color=color, lw=2.2)
            first = _learned(scene, start)
            loss = f"loss {scene.losses[start][k]:.2f}"
            note = f", learned after {first}" if k >= first else ""
            drawing.corner(axes, [(loss + note, color)])
        panels[0].legend(loc="lower left", fontsize=9)
        yield figure, 4000 if k == last else 700 if k < 4 else 300
    yield totals.frame(scene.results, "{} new sinusoids", (1, 3), (9, 4.2)), 6000


def _learned(scene: Scene, start: str) -> float:
    below = scene.losses[start] < scene.threshold
    return int(below.argmax()) if below.any() else np.inf


def _wave(axes: Any, scene: Scene, title: str) -> None:
    axes.plot(scene.x, scene.truth, color="0.6", lw=4, label="the sinusoid")
    axes.plot(*scene.support, "k^", ms=7, label="its ten examples", zorder=5)
    reach = 1.6 * np.abs(scene.truth).max()
    axes.set(xlabel="x", ylabel="y", ylim=(-1.5 * reach, reach))
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.2)


def _losses(axes: Any, scene: Scene) -> None:
    """Median query loss over steps with its 95% interval; step 0 at the left edge."""
    for start, result in scene.results.items():
        middle, low, high = np.array([convergence.median(r) for r in result.losses]).T
        # A logarithmic axis has no zero, so every step is shifted right by one.
        steps = np.arange(len(middle)) + 1
        color = MARKS[start]["color"]
        axes.plot(steps, middle, color=color, lw=2)
        k = min(25, len(middle) - 1)
        axes.text(
            steps[k],
            1.06 * high[k],
            start,
            color=color,
            ha="center",
            weight="bold",
            path_effects=drawing.HALO,
        )
        axes.fill_between(steps, low, high, color=color, alpha=0.2)
    axes.axhline(scene.threshold, ls="--", color="0.4", lw=1)
    axes.text(1.1, 0.9 * scene.threshold, "learned", va="top", color="0.3")
    ticks = [k for k in (0, 1, 3, 10, 30, 100, 300, 1000) if k < len(middle)]
    axes.set(xscale="log", yscale="log", xlabel="gradient steps on ten examples")
    axes.set_xticks([k + 1 for k in ticks], [str(k) for k in ticks])
    axes.minorticks_off()
    tasks = next(iter(scene.results.values())).losses.shape[1]
    axes.set(ylabel="query loss (mean squared error)")
    axes.set_title(f"{tasks} new sinusoids: median, 95% CI", loc="left")
    axes.grid(alpha=0.2)
