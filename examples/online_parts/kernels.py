"""Kernel ridge regression of the last readings: no training, no gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from online_parts import learners
from online_parts.learners import Borders
from online_parts.streams import Streams

# More readings than a gradient step sees, because the solution is cheap.
LARGEST = 40


class Ridge(NamedTuple):
    """Settings of a kernel ridge regression.

    Attributes:
        kernel: function of inputs `[streams, n, 1]` and `[streams, m, 1]` to
            `[streams, n, m]`.
        ridge: float, added to the diagonal.
        window: int, the most readings that count.
        borders: `Borders`.
    """

    kernel: Callable[[Any, Any], Any]
    ridge: float
    window: int
    borders: Borders = Borders()


def described(how: Ridge) -> str:
    """The settings, in words."""
    noticed = learners.described(how.borders)
    return f"{how.kernel.__name__}, ridge {how.ridge:g}, window {how.window}{noticed}"


def smooth(length: float) -> Callable[[Any, Any], Any]:
    """`exp(-|a - b|^2 / (2 length^2))`, which knows only that waves are smooth."""

    def kernel(a: Any, b: Any) -> Any:
        return np.exp(-((a - np.swapaxes(b, 1, 2)) ** 2) / (2 * length**2))

    kernel.__name__ = f"length {length:g}"
    return kernel


def sine(a: Any, b: Any) -> Any:
    """`cos(a - b)`: least squares on sin x and cos x, for who knows the formula."""
    return np.cos(a - np.swapaxes(b, 1, 2))


def errors(streams: Streams, how: Ridge) -> Any:
    """Squared errors `[streams, time]`, each reading predicted by the earlier ones.

    `k(x, X) (K(X, X) + ridge I)^-1 Y`; without earlier readings the prediction is 0.
    """
    size = streams.since.shape
    x, y = (
        np.pad(v, [(0, 0), (LARGEST, 0), (0, 0)]).astype("float64") for v in streams[:2]
    )
    # The errors of predicting 0 are those of a start that knows nothing.
    of_start, found = streams.y[..., 0] ** 2, np.zeros(size)
    count = np.zeros(size[:1], int)
    for t in range(size[1]):
        count = how.borders.before(count, streams.since[:, t])
        known = np.minimum(count, how.window)[:, None]
        there = (np.arange(LARGEST) >= LARGEST - known).astype(float)
        past, now = x[:, t : t + LARGEST], x[:, t + LARGEST, None]
        # Readings that do not count have a row and a column of zeros.
        matrix = how.kernel(past, past) * there[:, :, None] * there[:, None]
        matrix += how.ridge * np.eye(LARGEST)
        weights = np.linalg.solve(matrix, y[:, t : t + LARGEST] * there[..., None])
        guess = (how.kernel(now, past) * there[:, None]) @ weights
        found[:, t] = (guess[:, 0, 0] - streams.y[:, t, 0]) ** 2
        count = np.minimum(count + 1, LARGEST)
        count = how.borders.after(count, found[:, : t + 1], of_start[:, : t + 1])
    return found


def chosen(kernels: list[Any], borders: list[Borders], streams: Streams) -> Ridge:
    """The settings with the least mean error on these streams."""
    # Where something else says which readings count, all of them do.
    windows = (5, 10, 20, LARGEST) if type(borders[0]) is Borders else (LARGEST,)
    rows = itertools.product(kernels, (0.001, 0.01, 0.1), windows, borders)
    tried = [Ridge(*row) for row in rows]
    return min(tried, key=lambda how: errors(streams, how).mean())
