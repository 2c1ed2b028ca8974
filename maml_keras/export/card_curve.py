"""The adaptation curve as an SVG picture inside a page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 50
# A positive curve whose largest value is more than `WIDE` times its smallest is drawn
# on a logarithmic axis.
WIDE = 8.0


def curve_svg(
    steps: Sequence[int],
    mean: Sequence[float | None],
    half_width: Sequence[float | None],
    *,
    metric: str,
) -> str:
    """A line through the means with the 95% confidence band around it.

    Args:
        steps: ints, adaptation steps.
        mean: the metric's mean at each step; None leaves a gap.
        half_width: half-width of each mean's 95% interval.
        metric: str; `"accuracy"` is drawn in percent, from 0 to 100.

    Returns:
        An `<svg>` element, or an empty text if every mean is None. The page gives its
        colours: `currentColor` and the variables `--line` and `--grid`.

    >>> picture = curve_svg([0, 1], [0.2, 0.9], [0.01, 0.02], metric="accuracy")
    >>> picture.startswith("<svg") and "90.00%" in picture
    True
    """
    points = [
        (k, m, 0.0 if h is None else h)
        for k, m, h in zip(steps, mean, half_width)
        if m is not None
    ]
    if not points:
        return ""
    share = metric == "accuracy"
    low = min(m - h for _, m, h in points)
    high = max(m + h for _, m, h in points)
    log = not share and low > 0 and high / low > WIDE
    ticks = _percent() if share else _log(low, high) if log else _even(low, high)
    bottom, top = ticks[0], ticks[-1]
    last = max(max(steps), 1)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        place = (
            math.log(value / bottom) / math.log(top / bottom)
            if log
            else (value - bottom) / (top - bottom)
        )
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place

    def label(value: float) -> str:
        return f"{value:.0%}" if share else f"{value:g}"

    name = html.escape(metric)
    axis = f"query {name}" + (", logarithmic" if log else "")
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Query {name} over adaptation steps">'
    ]
    for tick in ticks:
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/>',
            f'<text x="{LEFT - 8}" y="{y(tick) + 5:.1f}" text-anchor="end">'
            f"{label(tick)}</text>",
        ]
    for step in steps[:: max(1, math.ceil(len(steps) / 11))]:
        parts.append(
            f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 19}" '
            f'text-anchor="middle">{step}</text>'
        )
    parts += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" '
        'text-anchor="middle">adaptation steps</text>',
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) '
        f'rotate(-90)" text-anchor="middle">{axis}</text>',
    ]
    for run in _runs(points, list(steps)):
        upper = [f"{x(k):.1f},{y(min(m + h, top)):.1f}" for k, m, h in run]
        lower = [f"{x(k):.1f},{y(max(m - h, bottom)):.1f}" for k, m, h in run[::-1]]
        line = " ".join(f"{x(k):.1f},{y(m):.1f}" for k, m, _ in run)
        parts += [
            f'<polygon class="band" points="{" ".join(upper + lower)}"/>',
            f'<polyline class="curve" points="{line}"/>',
        ]
    for k, m, h in points:
        parts += [
            # A bar shows the interval where the band is too thin to be seen, or where
            # a step stands alone.
            f'<line class="bar" x1="{x(k):.1f}" x2="{x(k):.1f}" '
            f'y1="{y(max(m - h, bottom)):.1f}" y2="{y(min(m + h, top)):.1f}"/>',
            f'<circle class="point" cx="{x(k):.1f}" cy="{y(m):.1f}" r="4">'
            f"<title>step {k}: {_figure(m, share)} ± {_figure(h, share)}</title>"
            "</circle>",
        ]
    return "\n".join([*parts, "</svg>"])


def _figure(value: float, share: bool) -> str:
    return f"{value:.2%}" if share else f"{value:.4g}"


def _runs(points: list[Any], steps: list[int]) -> list[list[Any]]:
    """The points in groups without a gap."""
    runs: list[list[Any]] = []
    for point in points:
        place = steps.index(point[0])
        if runs and place and steps[place - 1] == runs[-1][-1][0]:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _percent() -> list[float]:
    return [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def _even(low: float, high: float) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`.

    >>> _even(0.0, 3.4)
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    low = min(low, 0.0) if low < 0 or low < high / 2 else low
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    size = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= 5)
    first, last = math.floor(low / size), math.ceil(high / size)
    last = max(last, first + 1)
    return [float(f"{k * size:.12g}") for k in range(first, last + 1)]


def _log(low: float, high: float) -> list[float]:
    """1, 2 and 5 times each power of ten, or the powers alone for a wide span.

    >>> _log(0.15, 3.4)
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        marks = [float(f"{f}e{p}") for p in powers for f in factors]
        start = max(i for i, mark in enumerate(marks) if mark <= low)
        stop = next(i for i, mark in enumerate(marks) if mark >= high)
        if stop - start < 8:
            break
    return marks[start : stop + 1]
