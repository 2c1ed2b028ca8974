"""Burgers' equation as a family of tasks: a new viscosity is a new task.

`u_t + u u_x = v u_xx` for -1 < x < 1 and 0 < t < 1, with `u(x, 0) = -sin(pi x)` and
`u(-1, t) = u(1, t) = 0`. The viscosity `v` is drawn between 0.05 and 0.5, evenly in its
logarithm: the smaller it is, the steeper the front at x = 0. A task's support set asks
for the equation at 64 points, for the initial values and for the boundary values; no
solution is shown to the network. The errors are measured against the method of lines,
by SciPy. Three starts solve the same new tasks: random weights, one network that was
trained on the equations of all tasks together, and those of Meta-SGD, which is MAML
with a learned rate for each weight.

    python examples/physics_burgers.py --steps 2000    # twelve minutes
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

VISCOSITY = 0.05, 0.5
# The points of a task: of the equation, of the beginning and of each side.
POINTS, INITIAL, SIDE = 64, 12, 4
# Where the solution is compared: places and times.
PLACES, TIMES = np.linspace(-1.0, 1.0, 41), np.linspace(0.0, 1.0, 11)


@keras.saving.register_keras_serializable(package="physics")
class Burgers(Conditions):
    """Rows ask for `u` or for `u_t + u u_x - v u_xx`."""

    def operators(self, point: Any, constants: Any) -> list[Any]:
        x, t = point[:, :1], point[:, 1:]

        def network(x: Any, t: Any) -> Any:
            # A sum, because XLA has no second derivative of a concatenation.
            return self.network(x * [[1.0, 0.0]] + t * [[0.0, 1.0]])

        u, slope, bend = derivatives(lambda x: network(x, t), x, 2)
        _, change = derivatives(lambda t: network(x, t), t, 1)
        return [u, change + u * slope - constants * bend]


class Viscosities(mk.data.TaskFamily):
    """The viscosity of a task, and its points, which are new in each task."""

    def sample(self, seed: Any) -> Any:
        low, high = map(math.log, VISCOSITY)
        viscosity = tf.exp(tf.random.stateless_uniform([1], seed, low, high))
        seeds = [tf.random.fold_in(seed, k) for k in (1, 2)]
        support, query = (conditions(seed, viscosity) for seed in seeds)
        task = {"support_x": support[0], "support_y": support[1], "query_x": query[0]}
        return task, query[1]

    def solved(self, seed: int, count: int) -> Solved:
        """Tasks with their solutions at 41 places and 11 times."""
        task, _ = self.sample_many([seed, 0], count)
        own = task["support_x"]["constants"][:, 0]
        x, t = np.meshgrid(PLACES, TIMES)
        points = tf.constant(np.stack([x.ravel(), t.ravel()], axis=1), tf.float32)
        asked = [rows_of(points, [1.0, 0.0], one) for one in own]
        query = tf.nest.map_structure(lambda *rows: tf.stack(rows), *asked)
        real = np.stack([by_lines(float(one[0])).ravel() for one in own.numpy()])
        return Solved({**task, "query_x": query}, real[..., None].astype("float32"))


def conditions(seed: Any, viscosity: Any) -> Any:
    """Rows and targets: the equation inside, the beginning, and the two sides.

    The points are spread evenly, one at a random place of each cell of a grid.
    """
    draws = tf.random.stateless_uniform([POINTS, 2], seed)
    cells = tf.constant(np.argwhere(np.ones([8, 8])), tf.float32)
    inside = (cells + draws) / 8.0 * [2.0, 1.0] - [1.0, 0.0]
    begin = tf.linspace([-1.0, 0.0], [1.0, 0.0], INITIAL)
    sides = [
        tf.linspace([place, 1.0 / SIDE], [place, 1.0], SIDE) for place in (-1.0, 1.0)
    ]
    rows = together(
        rows_of(inside, [0.0, 1.0], viscosity),
        # A value counts nine times as much as the equation at a point.
        *(rows_of(points, [3.0, 0.0], viscosity) for points in (begin, *sides)),
    )
    initial = -3.0 * tf.sin(math.pi * begin[:, :1])
    return rows, tf.concat(
        [tf.zeros([POINTS, 1]), initial, tf.zeros([2 * SIDE, 1])], axis=0
    )


def by_lines(viscosity: float, *, cells: int = 320) -> Any:
    """The solution by the method of lines, central differences, `[times, places]`.

    The solution is odd in x, so its values at -1, 0 and 1 stay 0.
    """
    from scipy.integrate import solve_ivp

    x = np.linspace(-1.0, 1.0, cells + 1)
    width = x[1] - x[0]

    def change(_: float, inside: Any) -> Any:
        u = np.concatenate([[0.0], inside, [0.0]])
        flow = (u[2:] ** 2 - u[:-2] ** 2) / (4.0 * width)
        return viscosity * (u[2:] - 2 * u[1:-1] + u[:-2]) / width**2 - flow

    found = solve_ivp(
        change,
        (0.0, 1.0),
        -np.sin(math.pi * x[1:-1]),
        method="LSODA",
        lband=1,
        uband=1,
        t_eval=TIMES,
        rtol=1e-8,
        atol=1e-10,
    )
    return np.stack([np.interp(PLACES, x, [0.0, *column, 0.0]) for column in found.y.T])


def main(arguments: list[str] | None = None) -> dict[str, study.Found]:
    """Trains, solves new tasks, prints the table and draws; returns what was found."""
    # The last rows of a task's solution are those of t = 1.
    problem = study.Problem(
        "burgers", Burgers, 2, Viscosities(), PLACES, "x at t = 1", rate=0.003
    )
    return study.main(problem, arguments)


if __name__ == "__main__":
    main()
