"""Poisson's equation as a family of tasks: a new source is a new task.

`-u'' = f` on [0, pi] with `u(0) = u(pi) = 0`. The source `f` is a random sum of four
sines, so the solution is known. A task's support set asks for the equation at 24 points
and for the two boundary values; no solution is shown to the network, in training or in
use. Three starts solve the same new tasks: random weights, one network that was trained
on the equations of all tasks together, and those of Meta-SGD, which is MAML with a
learned rate for each weight.

    python examples/physics_poisson.py        # three minutes
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from physics_parts import study
from physics_parts.conditions import Conditions, derivatives, rows_of, together
from physics_parts.solving import Solved

import maml_keras as mk

POINTS, SINES = 24, 4


@keras.saving.register_keras_serializable(package="physics")
class Poisson(Conditions):
    """Rows ask for `u` or for `-u''`."""

    def operators(self, point: Any, constants: Any) -> list[Any]:
        u, _, bend = derivatives(self.network, point, 2)
        return [u, -bend]


class Sources(mk.data.TaskFamily):
    """`f(x) = sum_k a_k sin(k x)`, k = 1 to 4, with normally distributed `a_k`."""

    def sample(self, seed: Any) -> Any:
        a = tf.random.stateless_normal([SINES], seed)
        even = (tf.range(POINTS, dtype=tf.float32)[:, None] + 0.5) * math.pi / POINTS
        other = tf.random.stateless_uniform(
            [POINTS, 1], tf.random.fold_in(seed, 1), 0.0, math.pi
        )
        support, query = self.conditions(even, a), self.conditions(other, a)
        task = {"support_x": support[0], "support_y": support[1], "query_x": query[0]}
        return task, query[1]

    def conditions(self, x: Any, a: Any) -> Any:
        """Rows and targets: the equation at `x`, and zero at both ends."""
        source = tf.reduce_sum(a * tf.sin(x * waves()), axis=-1, keepdims=True)
        ends = tf.constant([[0.0], [math.pi]])
        # A boundary value counts nine times as much as the equation at a point.
        rows = together(rows_of(x, [0.0, 1.0], a), rows_of(ends, [3.0, 0.0], a))
        return rows, tf.concat([source, tf.zeros([2, 1])], axis=0)

    def solved(self, seed: int, count: int) -> Solved:
        """Tasks with `u = sum_k a_k / k^2 sin(k x)` at 101 points."""
        task, _ = self.sample_many([seed, 0], count)
        a = task["support_x"]["constants"][:, 0]
        x = tf.linspace([0.0], [math.pi], 101)
        asked = [rows_of(x, [1.0, 0.0], one) for one in a]
        query = tf.nest.map_structure(lambda *r: tf.stack(r), *asked)
        real = tf.reduce_sum(
            a[:, None] / waves() ** 2 * tf.sin(x * waves()), axis=-1, keepdims=True
        )
        return Solved({**task, "query_x": query}, real.numpy())


def waves() -> Any:
    """1 to the number of sines."""
    return tf.range(1.0, SINES + 1.0)


def by_differences(a: Any, x: Any) -> Any:
    """The solution at `x` by a classical method: second differences, 1,000 points."""
    grid = np.linspace(0.0, math.pi, 1001)
    step = grid[1]
    source = np.sin(np.outer(grid[1:-1], np.arange(1, SINES + 1))) @ a
    from scipy.linalg import solveh_banded

    bands = np.array([np.full(999, -1.0), np.full(999, 2.0)])
    inner = solveh_banded(bands, source * step**2)
    return np.interp(x, grid, np.concatenate([[0.0], inner, [0.0]]))


def main(arguments: list[str] | None = None) -> dict[str, study.Found]:
    """Trains, solves new tasks, prints the table and draws; returns what was found."""
    along = np.linspace(0.0, math.pi, 101)
    problem = study.Problem("poisson", Poisson, 1, Sources(), along, "x", rate=0.01)
    return study.main(problem, arguments)


if __name__ == "__main__":
    main()
