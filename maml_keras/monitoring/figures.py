"""Draws the inner loop as arrays of pixels; needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DPI = 100
RIGHT, WRONG = (46, 158, 79), (208, 59, 59)
# Limits for one task, so that its images stay large enough to be recognised.
MOST_QUERIES_DRAWN, MOST_SHOTS_DRAWN = 25, 5
# Side of an image and margins of an episode, in pixels; the gap is in images.
TILE, LEFT, TOP, GAP = 66, 70, 50, 0.4


def can_draw() -> bool:
    """True if matplotlib is installed (`pip install maml_keras[plot]`)."""
    return importlib.util.find_spec("matplotlib") is not None


def fits(
    support: tuple[Any, Any],
    query: tuple[Any, Any],
    x: Any,
    predictions: Any,
    *,
    title: str = "",
) -> Any:
    """Regression tasks, two in a row, with the fit before and after each inner step.

    Args:
        support: `(x, y)`, each `[tasks, examples]`.
        query: `(x, y)`, each `[tasks, examples]`.
        x: `[tasks, points]`, ascending.
        predictions: `[tasks, K + 1, points]`, at the points `x`.
        title: str, the title of the picture.

    Returns:
        uint8 `[height, width, 3]`.
    """
    tasks, steps = predictions.shape[:2]
    shades = [_shade(k / max(1, steps - 1)) for k in range(steps)]
    # Two tasks fit in a row: TensorBoard shows an image 340 pixels wide until a user
    # clicks on it.
    rows = -(-tasks // 2)
    width, height = 5.4, 2.1 * rows + 1.15
    figure = _figure(width, height)
    for i in range(tasks):
        box = (
            (0.68 + 2.5 * (i % 2)) / width,
            1 - (0.35 + 2.1 * (i // 2) + 1.85) / height,
            2.0 / width,
            1.8 / height,
        )
        axes = figure.add_axes(box)
        for k in range(steps):
            style = {"linestyle": ":"} if k == 0 else {"linewidth": 1.0}
            style = {"linewidth": 2.2} if k == steps - 1 and k else style
            axes.plot(x[i], predictions[i, k], color=shades[k], label=after(k), **style)
        axes.plot(query[0][i], query[1][i], "o", color="0.6", markersize=4, zorder=3)
        axes.plot(support[0][i], support[1][i], "k^", markersize=6, zorder=4)
        shown = np.concatenate([support[1][i], query[1][i], predictions[i, -1]])
        low, high = np.nanmin(shown), np.nanmax(shown)
        margin = 0.1 * (high - low) + 1e-3
        if np.isfinite(margin):  # A diverged task keeps matplotlib's own limits.
            axes.set_ylim(low - margin, high + margin)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=9)
        if i % 2 == 0:
            axes.set_ylabel("y", fontsize=9, labelpad=0)
        if i + 2 >= tasks:
            axes.set_xlabel("x", fontsize=9, labelpad=0)
    lines, names = axes.get_legend_handles_labels()
    chosen = sorted({0, 1, steps // 2, steps - 1} & set(range(steps)))
    marks = [
        _mark("^", "k", "support examples"),
        _mark("o", "0.6", "query examples"),
    ]
    figure.legend(
        [lines[k] for k in chosen] + marks,
        [names[k] for k in chosen] + [mark.get_label() for mark in marks],
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    figure.suptitle(title, fontsize=11, y=1 - 0.06 / height, va="top")
    return _pixels(figure)


def episode(
    support: tuple[Any, Any],
    query: tuple[Any, Any],
    predicted: Mapping[str, Any],
    *,
    title: str = "",
) -> Any:
    """One classification task: support images, then queries with predicted classes.

    Each class has a row. A green frame marks a right prediction; a red frame marks a
    wrong one and shows the number of the predicted class.

    Args:
        support: images `[examples, height, width, channels]` and class numbers.
        query: images and class numbers in the same form.
        predicted: predicted class numbers `[query examples]`, by a name such as "after
            1 step".
        title: str, the title of the picture.

    Returns:
        uint8 `[height, width, 3]`.
    """
    classes = np.unique(support[1])
    shots = min(MOST_SHOTS_DRAWN, _most(support[1]))
    shown = max(1, min(MOST_QUERIES_DRAWN // len(classes), _most(query[1])))
    # The images go into one array of pixels: a hundred matplotlib axes take seconds.
    columns = shots + len(predicted) * (shown + GAP)
    width, height = int(LEFT + columns * TILE), TOP + len(classes) * TILE
    canvas = np.full([height, width, 3], 255, np.uint8)
    words = [
        (6, 18, title, "left", "black"),
        (LEFT, TOP - 6, "support", "left", "black"),
    ]

    def put(row: int, column: float, image: Any, frame: Any) -> tuple[int, int]:
        x, y = int(LEFT + column * TILE), TOP + row * TILE
        inside = _tile(image, TILE - 10)
        canvas[y + 2 : y + TILE - 2, x + 2 : x + TILE - 2] = frame
        canvas[y + 5 : y + 5 + len(inside), x + 5 : x + 5 + len(inside)] = inside
        return x, y

    for row, label in enumerate(classes):
        middle = TOP + row * TILE + TILE // 2 + 4
        words.append((LEFT - 8, middle, f"class {label}", "right", "black"))
        for column, image in enumerate(support[0][support[1] == label][:shots]):
            put(row, column, image, (150, 150, 150))
    for number, (name, labels) in enumerate(predicted.items()):
        first = shots + GAP + number * (shown + GAP)
        share = f"{name}: {np.mean(labels == query[1]):.0%} right"
        words.append((int(LEFT + first * TILE), TOP - 6, share, "left", "black"))
        for row, label in enumerate(classes):
            for column, i in enumerate(np.nonzero(query[1] == label)[0][:shown]):
                good = labels[i] == label
                frame = RIGHT if good else WRONG
                x, y = put(row, first + column, query[0][i], frame)
                if not good:
                    canvas[
                        y + TILE - 20 : y + TILE - 2, x + TILE - 18 : x + TILE - 2
                    ] = WRONG
                    corner = (x + TILE - 10, y + TILE - 6)
                    words.append((*corner, str(labels[i]), "center", "white"))
    figure = _figure(width / DPI, height / DPI)
    figure.figimage(canvas)
    for x, y, text, side, color in words:
        figure.text(
            x / width,
            1 - y / height,
            text,
            fontsize=9,
            ha=side,
            va="baseline",
            color=color,
        )
    return _pixels(figure)


def _tile(image: Any, side: int) -> Any:
    """An image as uint8 `[side, side, 3]`; a single channel is drawn as dark ink."""
    pixels = np.asarray(image, dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0.0 or high > 1.0:  # The images are standardised, or are bytes.
        pixels = (pixels - low) / (high - low or 1.0)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(1.0 - pixels, 3, axis=-1)
    rows, columns = (np.arange(side) * n // side for n in pixels.shape[:2])
    return (255 * pixels[rows][:, columns]).astype(np.uint8)


def heat_maps(
    tables: Mapping[str, Any],
    layers: Sequence[str],
    *,
    log: bool,
    title: str = "",
) -> Any:
    """Heat maps of layers by inner steps, one below the other, with their numbers.

    Args:
        tables: `[steps, layers]` by name.
        layers: names of the layers.
        log: bool, whether colours follow the logarithm.
        title: str, the title of the picture.

    Returns:
        uint8 `[height, width, 3]`.
    """
    steps = next(iter(tables.values())).shape[0]
    names = [short(layer) for layer in layers]
    gutter = 0.3 + 0.085 * max(map(len, names))
    panel = 0.8 + 0.28 * len(names)
    width, height = gutter + max(3.0, 0.5 * steps) + 0.1, panel * len(tables) + 0.3
    figure = _figure(width, height)
    for i, (name, table) in enumerate(tables.items()):
        box = (
            gutter / width,
            1 - (0.3 + panel * (i + 1) - 0.45) / height,
            1 - (gutter + 0.1) / width,
            0.28 * len(names) / height,
        )
        axes = figure.add_axes(box)
        with np.errstate(divide="ignore", invalid="ignore"):
            colours = np.log10(table) if log else np.asarray(table, dtype=float)
        colours = np.where(np.isfinite(colours), colours, np.nan).T
        axes.imshow(colours, aspect="auto", cmap="viridis")
        some = colours[np.isfinite(colours)]
        middle = (some.min() + some.max()) / 2 if some.size else 0.0
        for row in range(len(names)):
            for column in range(steps):
                axes.text(
                    column,
                    row,
                    f"{table[column, row]:.2g}",
                    fontsize=8,
                    ha="center",
                    va="center",
                    color="black" if colours[row, column] > middle else "white",
                )
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_xticks(range(steps), [str(k + 1) for k in range(steps)], fontsize=9)
        axes.set_xlabel("inner step", fontsize=9, labelpad=1)
        axes.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=10, y=1 - 0.06 / height, va="top")
    return _pixels(figure)


def short(layer: str) -> str:
    """A layer's name without the model's.

    >>> short("mlp/dense_1")
    'dense_1'
    """
    return layer.rpartition("/")[2]


def after(k: int) -> str:
    """The place in the inner loop, as text.

    >>> after(0), after(1), after(2)
    ('before adaptation', 'after 1 step', 'after 2 steps')
    """
    return "before adaptation" if k == 0 else f"after {k} step{'s' if k > 1 else ''}"


def _shade(share: float) -> Any:
    """A colour from light orange to dark red, so that later steps stand out."""
    from matplotlib import colormaps

    return colormaps["YlOrRd"](0.35 + 0.6 * share)


def _mark(marker: str, color: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=color, linestyle="none", label=label)


def _most(labels: Any) -> int:
    return int(np.unique(labels, return_counts=True)[1].max())


def _figure(width: float, height: float) -> Any:
    # pyplot would choose a backend for the whole process, so it is not used here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Any) -> Any:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
