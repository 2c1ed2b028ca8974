"""An ordinary differential equation of third order as a family of tasks.

A spring with damping is released at 1, and a slow sensor reads its position:
`x'' + 2 d x' + (d^2 + w^2) x = 0` and `l s' + s = x`, so the reading `s` fulfils
`l s''' + (1 + 2 d l) s'' + (2 d + k l) s' + k s = 0` with `k = d^2 + w^2`. Each task
has its own lag `l`, damping `d` and frequency `w`. A task's support set asks for the
equation at 32 times and for the reading and its first two derivatives at the beginning;
no solution is shown to the network. Three starts solve the same new tasks: random
weights, one network that was trained on the equations of all tasks together, and those
of Meta-SGD, which is MAML with a learned rate for each weight.

    python examples/physics_ode.py        # four minutes
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from physics_parts import study
from physics_parts.conditions import Conditions, derivatives, rows_of, together
from physics_parts.solving import Solved

import maml_keras as mk

POINTS, END = 32, 3.0
LAG, DAMPING, FREQUENCY = (0.3, 1.0), (0.1, 0.5), (1.0, 3.0)


@keras.saving.register_keras_serializable(package="physics")
class Reading(Conditions):
    """Rows ask for `s`, `l s'`, `l^2 s''` or the left side of the equation over `k`."""

    def operators(self, point: Any, constants: Any) -> list[Any]:
        lag, damping, frequency = tf.unstack(constants[:, None], axis=-1)
        k = damping**2 + frequency**2
        s, first, second, third = derivatives(self.network, point, 3)
        others = lag * third + (1.0 + 2.0 * damping * lag) * second
        others += (2.0 * damping + k * lag) * first
        return [s, lag * first, lag**2 * second, others / k + s]


class Sensors(mk.data.TaskFamily):
    """Lag, damping and frequency, each uniform in its range."""

    def sample(self, seed: Any) -> Any:
        ranges = tf.constant([LAG, DAMPING, FREQUENCY])
        drawn = tf.random.stateless_uniform([3], seed)
        own = ranges[:, 0] + drawn * (ranges[:, 1] - ranges[:, 0])
        even = (tf.range(POINTS, dtype=tf.float32)[:, None] + 0.5) * END / POINTS
        other = tf.random.stateless_uniform(
            [POINTS, 1], tf.random.fold_in(seed, 1), 0.0, END
        )
        support, query = conditions(even, own), conditions(other, own)
        task = {"support_x": support[0], "support_y": support[1], "query_x": query[0]}
        return task, query[1]

    def solved(self, seed: int, count: int) -> Solved:
        """Tasks with their solutions at 101 times."""
        task, _ = self.sample_many([seed, 0], count)
        own = task["support_x"]["constants"][:, 0]
        times = tf.linspace([0.0], [END], 101)
        asked = [rows_of(times, [1.0, 0.0, 0.0, 0.0], one) for one in own]
        query = tf.nest.map_structure(lambda *rows: tf.stack(rows), *asked)
        real = np.stack([reading(times.numpy(), *one) for one in own.numpy()])
        return Solved({**task, "query_x": query}, real.astype("float32"))


def conditions(times: Any, own: Any) -> Any:
    """Rows and targets: the equation at some times, and the three initial values."""
    begin = tf.zeros([1, 1])
    # An initial value counts nine times as much as the equation at a time.
    initial = [[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]]
    rows = together(
        rows_of(times, [0.0, 0.0, 0.0, 1.0], own),
        *(rows_of(begin, asked, own) for asked in initial),
    )
    # The sensor reads 0 when the spring is released: s = 0, l s' = 1, l^2 s'' = -1.
    targets = tf.constant([[0.0], [3.0], [-3.0]])
    return rows, tf.concat([tf.zeros_like(times), targets], axis=0)


def reading(t: Any, lag: float, damping: float, frequency: float) -> Any:
    """The sensor's reading in closed form.

    `s = a exp(-t / l) + exp(-d t) (b cos w t + c sin w t)`; each part fulfils the
    equation, and the three initial values give a, b and c.
    """
    d, w = damping, frequency
    initial = np.array(
        [[1.0, 1.0, 0.0], [-1 / lag, -d, w], [1 / lag**2, d**2 - w**2, -2 * d * w]]
    )
    a, b, c = np.linalg.solve(initial, [0.0, 1 / lag, -1 / lag**2])
    wave = b * np.cos(w * t) + c * np.sin(w * t)
    return a * np.exp(-t / lag) + np.exp(-d * t) * wave


def main(arguments: list[str] | None = None) -> dict[str, study.Found]:
    """Trains, solves new tasks, prints the table and draws; returns what was found."""
    along = np.linspace(0.0, END, 101)
    problem = study.Problem("ode", Reading, 1, Sensors(), along, "time", rate=0.003)
    return study.main(problem, arguments)


if __name__ == "__main__":
    main()
