"""Solves tasks by SciPy's L-BFGS, on the same loss and from the same weights."""

import time
from typing import Any

import numpy as np
import tensorflow as tf
from physics_parts.solving import Solved

import maml_keras as mk


class QuasiNewton:
    """L-BFGS on the support loss of single tasks.

    Args:
        maml: gives the network and the loss.
    """

    def __init__(self, maml: mk.MAML) -> None:
        self.maml = maml
        self.shapes = [tuple(v.shape) for v in maml.learner.variables]
        self._loss = tf.function(self._loss_of, autograph=False, jit_compile=True)
        self._error = tf.function(self._error_of, autograph=False)

    def solve(
        self, solved: Solved, *, iterations: int, level: float = 0.01
    ) -> tuple[Any, Any]:
        """Gradients and processor seconds until each task's error is below `level`.

        All tasks start at the present weights of `maml`. A task that is not solved
        after `iterations` iterations has infinitely many gradients.

        Returns:
            Two arrays `[tasks]`.
        """
        pairs = zip(_each(solved.task), tf.unstack(tf.constant(solved.solution)))
        found = [self._solve(*pair, iterations, level) for pair in pairs]
        counts, seconds = np.transpose(found)
        return counts, seconds

    def _solve(
        self, task: Any, real: Any, iterations: int, level: float
    ) -> tuple[float, float]:
        from scipy.optimize import minimize

        count, spent, reached = 0, 0.0, False

        def value(flat: Any) -> Any:
            nonlocal count, spent
            begin = time.process_time()
            loss, gradient = self._loss(
                tf.constant(flat, tf.float32), task["support_x"], task["support_y"]
            )
            loss, gradient = float(loss), gradient.numpy().astype("float64")
            count, spent = count + 1, spent + time.process_time() - begin
            return loss, gradient

        def look(flat: Any) -> None:
            nonlocal reached
            error = self._error(tf.constant(flat, tf.float32), task["query_x"], real)
            if error < level:
                reached = True
                raise StopIteration  # SciPy ends at this iteration.

        weights = self.maml.learner.weights()
        first = np.concatenate([w.numpy().ravel() for w in weights]).astype("float64")
        value(first)  # Compiles.
        count, spent = 0, 0.0
        options = {"maxiter": iterations, "maxcor": 50, "ftol": 0.0, "gtol": 0.0}
        minimize(
            value, first, jac=True, method="L-BFGS-B", callback=look, options=options
        )
        return (float(count) if reached else np.inf), spent

    def _weights(self, flat: Any) -> list[Any]:
        parts = tf.split(flat, [int(np.prod(shape)) for shape in self.shapes])
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes)]

    def _loss_of(self, flat: Any, x: Any, y: Any) -> Any:
        learner, inner = self.maml.learner, self.maml.inner
        weights, state = self._weights(flat), learner.state()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss, _ = inner.support_loss(
                learner, weights, state, x, y, step=0, training=False
            )
        gradients = tape.gradient(loss, weights)
        return loss, tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)

    def _error_of(self, flat: Any, x: Any, real: Any) -> Any:
        learner = self.maml.learner
        found = learner(self._weights(flat), learner.state(), x, training=False)
        return tf.norm(found.predictions - real) / tf.norm(real)


def _each(task: Any) -> list[Any]:
    count = len(task["support_y"])
    return [tf.nest.map_structure(lambda t, i=i: t[i], task) for i in range(count)]
