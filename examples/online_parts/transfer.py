"""Average error, forward and backward transfer of a learner that meets many tasks.

Lopez-Paz and Ranzato, 2017, https://arxiv.org/abs/1706.08840
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Transfer(NamedTuple):
    """What the matrix `R` says; its entry `R[i, j]` is task j after learning task i.

    Attributes:
        average: floats `[...]`, after the last task: `mean_j R[T, j]`.
        learned: floats `[...]`, each task right after it was learned: `mean_i R[i, i]`.
        backward: floats `[...]`, what later tasks change about earlier ones:
            `mean_{i < T} (R[T, i] - R[i, i])`.
        forward: floats `[...]`, what earlier tasks change about a task that has not
            come yet: `mean_{i > 1} (R[i - 1, i] - b[i])`.
    """

    average: Any
    learned: Any
    backward: Any
    forward: Any


def transfer(matrix: Any, untrained: Any) -> Transfer:
    """Averages and transfers of the matrix of a sequence of tasks, or of many.

    If `R` holds accuracies, positive transfers are good; if it holds errors, negative
    ones are.

    Args:
        matrix: floats `[..., T, T]`, `R`, at least two tasks.
        untrained: floats `[..., T]`, `b`: each task by a network with random weights.

    >>> found = transfer([[0.9, 0.4], [0.7, 0.8]], [0.5, 0.5])
    >>> [round(float(value), 2) for value in found]
    [0.75, 0.85, -0.2, -0.1]
    """
    matrix, untrained = np.asarray(matrix), np.asarray(untrained)
    own = np.diagonal(matrix, axis1=-2, axis2=-1)
    next_ones = np.diagonal(matrix, offset=1, axis1=-2, axis2=-1)
    last = matrix[..., -1, :]
    return Transfer(
        average=last.mean(axis=-1),
        learned=own.mean(axis=-1),
        backward=(last - own)[..., :-1].mean(axis=-1),
        forward=(next_ones - untrained[..., 1:]).mean(axis=-1),
    )
