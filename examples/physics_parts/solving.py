"""Solves tasks step by step from given weights, and measures the error."""

import time
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import maml_keras as mk
from maml_keras.inner.loop import Point

SUPPORT = "support_x", "support_y"


class Solved(NamedTuple):
    """Tasks with their solutions.

    Attributes:
        task: dict of `support_x` and `support_y`, the conditions, and `query_x`, rows
            that ask for the solution; `[tasks, rows, ...]`.
        solution: array `[tasks, rows, 1]`, from another source than the network.
    """

    task: dict[str, Any]
    solution: Any

    def first(self, count: int) -> "Solved":
        """The first few of the tasks."""
        return Solved(*tf.nest.map_structure(lambda t: t[:count], tuple(self)))


class Solver:
    """Takes the inner steps of many tasks and notes the error before each of them.

    The steps are `InnerLoop.step`, one compiled function for all tasks, rates and
    initial weights.

    Args:
        maml: gives the network and the update rule.
    """

    def __init__(self, maml: mk.MAML) -> None:
        self.maml = maml
        self._compiled = tf.function(
            self._errors_and_step, autograph=False, jit_compile=True
        )

    def errors(self, solved: Solved, *, steps: int, rate: float) -> Any:
        """The relative L2 error `|u - solution| / |solution|` after 0 .. K steps.

        Args:
            solved: the tasks; all start at the present weights of `maml`.
            steps: int, K.
            rate: float, the inner rate.

        Returns:
            Array `[tasks, K + 1]`.
        """
        learner, count = self.maml.learner, len(solved.solution)
        elements = tf.nest.map_structure(tf.constant, (solved.task, solved.solution))
        first = self.maml.inner.start(
            learner, learner.weights(), learner.state(), None, None, training=False
        )
        points = tf.nest.map_structure(
            lambda t: tf.repeat(tf.convert_to_tensor(t)[None], count, axis=0),
            tuple(first),
        )
        errors = []
        for step in range(steps + 1):
            error, points = self._compiled(
                tf.constant(step), tf.constant(rate), *elements, points
            )
            errors.append(error.numpy())
        return np.stack(errors, axis=1)

    def _errors_and_step(
        self, step: Any, rate: Any, task: Any, solution: Any, points: Any
    ) -> Any:
        learner, inner = self.maml.learner, self.maml.inner

        def of_one(element: Any) -> Any:
            task, real, point = element
            point = Point(*point)
            found = learner(point.weights, point.state, task["query_x"], training=False)
            support = [task[part] for part in SUPPORT]
            how = {"step": step, "training": False, "learning_rate": rate}
            error = tf.norm(found.predictions - real) / tf.norm(real)
            return error, tuple(inner.step(learner, point, *support, **how))

        elements = task, solution, points
        return tf.vectorized_map(of_one, elements, fallback_to_while_loop=False)


def steps_to(errors: Any, level: float = 0.01) -> Any:
    """The first step with an error below `level` for each task; infinity without."""
    below = errors < level
    return np.where(below.any(axis=1), below.argmax(axis=1), np.inf)


def seconds_of_a_step(maml: mk.MAML, solved: Solved, *, steps: int = 200) -> float:
    """Processor seconds of one step on one task by `maml.adapt`, without tracing."""
    support = [tf.nest.map_structure(lambda t: t[0], solved.task[k]) for k in SUPPORT]
    taken = []
    for number in (1, 1, steps + 1):
        begin = time.process_time()
        maml.adapt(*support, steps=number, verbose=0)
        taken.append(time.process_time() - begin)
    return (taken[2] - taken[1]) / steps
