"""Adaptation to one task, compiled once for each number of axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maml_keras.backend.step_progress import StepReport
from maml_keras.inner.loop import InnerLoop
from maml_keras.learner.learner import Learner


def compiled_adaptation(learner: Learner, inner: InnerLoop) -> Callable[..., list[Any]]:
    """The function that adapts to one task: `(x, y, steps, rate, verbose) -> weights`.

    It is a plain function, because Keras would save an object.

    Args:
        learner: the model as a pure function.
        inner: the inner loop.
    """
    compiled: dict[Any, Any] = {}

    def adapted(x: Any, y: Any, steps: int, rate: Any, verbose: Any) -> list[Any]:
        # One function for each number of axes. If one function saw two numbers of
        # axes, TensorFlow would trace it for an unknown number, which layers
        # refuse.
        axes = tuple(len(leaf.shape) for leaf in tf.nest.flatten((x, y)))
        if axes not in compiled:
            # TensorFlow counts the traces of a method for all models together, and
            # would warn if several models trace once each. It does not for a
            # partial function.
            compiled[axes] = tf.function(
                functools.partial(adapted_weights, learner, inner),
                autograph=False,
                reduce_retracing=True,
            )
        # Each call has its own place for its progress, because calls in several
        # threads share the graph.
        report = StepReport()
        with report.shown(steps, verbose=verbose):
            values: list[Any] = compiled[axes](
                report.place, x, y, tf.constant(steps), rate
            )
        return values

    return adapted


def adapted_weights(
    learner: Learner,
    inner: InnerLoop,
    progress: Any,
    x: Any,
    y: Any,
    steps: Any,
    learning_rate: Any,
) -> list[Any]:
    """Values of the model's variables after some inner steps on one support set.

    Args:
        learner: the model as a pure function.
        inner: the inner loop.
        progress: where the graph reports its progress, a `StepReport`'s place.
        x: support inputs `[examples, ...]`.
        y: support targets `[examples, ...]`.
        steps: int tensor.
        learning_rate: None, or a scalar that overrides the rule's rate.
    """
    last = inner.adapt(
        learner,
        learner.weights(),
        learner.state(),
        x,
        y,
        steps=steps,
        learning_rate=learning_rate,
        report=StepReport(progress).write,
    )
    state = learner.state()
    if learner.batch_norm.uses_batch_statistics(training=False):
        state = learner.batch_statistics(last.weights, state, x, step=steps)
    values: list[Any] = learner.folded(last.weights, state, steps)
    return values
