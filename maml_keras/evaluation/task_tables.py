"""One task as text for a terminal: dots of images, points of curves, rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# A braille sign has four rows of two dots. Its number is EMPTY plus these.
DOTS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
EMPTY = 0x2800
# Brightness at which the dots of a four by four square appear (Bayer's matrix).
ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
THRESHOLDS = (ORDER + 0.5) / 16
# Signs across an image, and rows of a picture of a curve.
ACROSS, HIGH = 14, 13
SUPPORT, QUERY, BOTH = "#", "o", "@"
# Examples of a table that are shown of each set.
MOST_ROWS = 10

Sets = Mapping[str, tuple[Any, Any]]


def task_text(task: Mapping[str, Any], query_y: Any, *, width: int = 80) -> str:
    """One task as text: what a learner sees, and what it is graded on.

    Images become braille dots, brighter where there are more dots, with a row of images
    for each class. Pairs of single numbers become points in a plane. All other examples
    become rows of a table, with as many numbers as fit.

    Args:
        task: `support_x`, `support_y` and `query_x`, arrays `[examples, ...]` or dicts
            of them.
        query_y: targets of the query examples.
        width: int, columns of the terminal, at least 20.

    Returns:
        Lines of at most `width` signs.

    >>> x = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> task = {"support_x": x, "support_y": [0, 1], "query_x": x[:1]}
    >>> print(task_text(task, [0]))
    support: 2 examples
      0 1 -> 0
      2 3 -> 1
    query: 1 example
      0 1 -> 0
    """
    sets = {
        "support": (task["support_x"], task["support_y"]),
        "query": (task["query_x"], query_y),
    }
    if is_images(task["support_x"]):
        return _images(sets, width)
    if is_curve(task["support_x"], task["support_y"]):
        return _curve(sets, width)
    return _table(sets, width)


def is_images(x: Any) -> bool:
    """Whether inputs are images `[examples, height, width, channels]`.

    >>> is_images(np.zeros([2, 8, 8, 1])), is_images(np.zeros([2, 8]))
    (True, False)
    """
    return not isinstance(x, Mapping) and np.ndim(x) == 4 and np.shape(x)[3] in (1, 3)


def is_curve(x: Any, y: Any) -> bool:
    """Whether examples are pairs of a single number and a single number.

    >>> is_curve(np.zeros([5, 1]), np.zeros(5)), is_curve(np.zeros([5, 2]), np.zeros(5))
    (True, False)
    """
    return all(
        not isinstance(part, Mapping)
        and np.ndim(part) in (1, 2)
        and np.shape(part)[1:] in ((), (1,))
        and np.asarray(part).dtype.kind in "iuf"
        for part in (x, y)
    )


def _images(sets: Sets, width: int) -> str:
    x, y = (list(map(np.asarray, part)) for part in zip(*sets.values(), strict=True))
    classes = [_classes(labels) for labels in y]
    fit = max(2, width // (ACROSS + 1))
    most = [
        np.unique(labels, return_counts=True)[1].max(initial=0) for labels in classes
    ]
    shots = min(most[0], max(1, fit // 2))
    shown = shots, min(most[1], max(1, fit - shots))
    lines = [f"{'support':<{shots * (ACROSS + 1)}}query"]
    for label in np.unique(classes[0]):
        blocks: list[list[str]] = []
        blank = [" " * ACROSS] * len(_dots(x[0][0]))
        for images, labels, count in zip(x, classes, shown):
            own = [_dots(image) for image in images[labels == label][:count]]
            blocks += own + [blank] * (count - len(own))
        lines += [f"class {label}", *map(" ".join, zip(*blocks, strict=True))]
    return "\n".join(line[:width].rstrip() for line in lines)


def _classes(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Class numbers of targets `[n]`, `[n, 1]` or one-hot `[n, classes]`."""
    return y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.ravel()


def _dots(image: npt.NDArray[Any]) -> list[str]:
    """The lines of an image as braille signs."""
    grey = np.asarray(image, np.float64).mean(axis=-1)
    low, high = float(grey.min()), float(grey.max())
    if low < 0.0 or high > 1.0:  # The images are standardised, or are bytes.
        grey = (grey - low) / (high - low or 1.0)
    rows = max(1, round(ACROSS / 2 * grey.shape[0] / grey.shape[1]))
    small = _means(4 * rows, len(grey)) @ grey @ _means(2 * ACROSS, grey.shape[1]).T
    on = small > np.tile(THRESHOLDS, [rows, ACROSS])[:, : 2 * ACROSS]
    signs = EMPTY + np.einsum("iajb,ab->ij", on.reshape(rows, 4, ACROSS, 2), DOTS)
    return ["".join(map(chr, line)) for line in signs.tolist()]


def _means(count: int, length: int) -> npt.NDArray[Any]:
    """Weights `[count, length]` of means over equal parts of a row of pixels."""
    ends = np.linspace(0, length, count + 1)
    pixels = np.arange(length)
    shares = np.minimum(ends[1:, None], pixels + 1) - np.maximum(
        ends[:-1, None], pixels
    )
    weights = np.clip(shares, 0, None)
    means: npt.NDArray[Any] = weights / weights.sum(axis=1, keepdims=True)
    return means


def _curve(sets: Sets, width: int) -> str:
    points = {
        name: np.stack([np.ravel(x), np.ravel(y)]).astype(float)
        for name, (x, y) in sets.items()
    }
    every = np.concatenate(list(points.values()), axis=1)
    every = every[:, np.isfinite(every).all(axis=0)]
    if not every.size:
        return _table(sets, width)
    (left, low), (right, high) = every.min(axis=1), every.max(axis=1)
    columns = width - 12
    plane = np.full([HIGH, columns], " ")
    for name, sign in (("query", QUERY), ("support", SUPPORT)):
        for x, y in points[name].T:
            if np.isfinite([x, y]).all():
                place = (
                    HIGH - 1 - _place(y, low, high, HIGH),
                    _place(x, left, right, columns),
                )
                plane[place] = sign if plane[place] in (" ", sign) else BOTH
    names = [f"{high:.3g}", *[""] * (HIGH - 2), f"{low:.3g}"]
    lines = [f"{name:>9} │{''.join(row)}" for name, row in zip(names, plane)]
    ends = f"{left:.3g}", f"{right:.3g}"
    axis = f"{'':>11}{ends[0]}{ends[1]:>{columns - len(ends[0])}}"
    legend = f"{'':>11}{SUPPORT} support  {QUERY} query  {BOTH} both"
    return "\n".join(line[:width].rstrip() for line in [*lines, axis, legend])


def _place(value: float, low: float, high: float, count: int) -> int:
    share = 0.5 if high == low else (value - low) / (high - low)
    return round(share * (count - 1))


def _table(sets: Sets, width: int) -> str:
    lines = []
    for name, (x, y) in sets.items():
        count = len(np.asarray(next(iter(y.values())) if isinstance(y, Mapping) else y))
        lines.append(f"{name}: {count} example{'s' * (count != 1)}")
        for i in range(min(count, MOST_ROWS)):
            target = f" -> {_numbers(y, i, width // 3)}"
            lines.append(f"  {_numbers(x, i, width - 2 - len(target))}{target}")
        if count > MOST_ROWS:
            lines.append(f"  ... and {count - MOST_ROWS} more")
    return "\n".join(lines)


def _numbers(values: Any, i: int, width: int) -> str:
    """Example i as numbers or words, as many as fit."""
    if isinstance(values, Mapping):
        share = max(8, width // len(values) - 1)
        parts = (f"{k}={_numbers(v, i, share - len(k))}" for k, v in values.items())
        return _cut(" ".join(parts), width)
    flat = np.asarray(values)[i].ravel()
    words = (f"{v:.4g}" if flat.dtype.kind in "iuf" else str(v) for v in flat)
    return _cut(" ".join(words), width)


def _cut(text: str, width: int) -> str:
    """The text, or its beginning and two dots.

    >>> _cut("123456", 5), _cut("12345", 5)
    ('123..', '12345')
    """
    return text if len(text) <= width else text[: max(0, width - 2)] + ".."
