"""A chain of steps that is traced once for any number of steps."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from maml_keras.learner.graph_survey import nodes_of

_in_python = contextvars.ContextVar("in_python", default=False)


def points(
    step: Callable[[Any, Any, Any, Any], Any],
    first: Any,
    learned: Any,
    fixed: Any,
    *,
    steps: int,
) -> list[Any]:
    """All points of `p_0 = first`, `p_{k+1} = step(k, p_k, learned, fixed)`.

    In a graph, Python builds one step and its derivative as functions, and TensorFlow
    inlines these functions at each call. So the graph equals the graph of a Python
    loop, but is built in a fraction of the time. A tensor that a step returns unchanged
    stays the same tensor. Steps that draw random numbers from TensorFlow's own
    generators are built one by one, because all copies of one body would draw the same
    numbers.

    Args:
        step: a pure function of tensors that returns a nest like `p_k`. All tensors
            that the step depends on must be arguments.
        first: nest of tensors.
        learned: nest of further tensors in which the step is differentiated.
        fixed: nest of tensors in which the step is not differentiated.
        steps: int.

    Returns:
        The `steps + 1` points.

    >>> @tf.function
    ... def fourth_power(w):
    ...     return points(lambda k, p, learned, fixed: p * p, w, (), (), steps=2)[-1]
    >>> float(fourth_power(tf.constant(3.0)))
    81.0
    """
    if steps > 1 and not (tf.executing_eagerly() or _in_python.get()):
        first, learned, fixed = tf.nest.map_structure(
            tf.convert_to_tensor, (first, learned, fixed)
        )
        step = _traced(step, first, learned, fixed)
    chain = [first]
    for k in range(steps):
        chain.append(step(tf.constant(k), chain[-1], learned, fixed))
    return chain


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """A scope in which `points` builds each step separately.

    `tf.vectorized_map` needs this scope, because it would rewrite the function of a
    step again for each call.
    """
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def _traced(step: Any, first: Any, learned: Any, fixed: Any) -> Any:
    unchanged: list[bool] = []

    def changed(k: Any, point: Any, learned: Any, fixed: Any) -> list[Any]:
        point, learned = tf.nest.map_structure(_dense, (point, learned))
        # Without this, TensorFlow would build, and perhaps compute, the derivative in
        # the support images.
        fixed = tf.nest.map_structure(tf.stop_gradient, fixed)
        after = tf.nest.flatten(step(k, point, learned, fixed))
        unchanged[:] = [a is b for a, b in zip(after, tf.nest.flatten(point))]
        return [t for t, same in zip(after, unchanged) if not same]

    traced = tf.function(changed, autograph=False).get_concrete_function(
        *tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype),
            (tf.constant(0), first, learned, fixed),
        )
    )
    if any("seed2" in node.attr for node in nodes_of(traced.graph)):
        return step

    def call(k: Any, point: Any, learned: Any, fixed: Any) -> Any:
        new = iter(traced(*tf.nest.flatten((k, point, learned, fixed))))
        before = tf.nest.flatten(point)
        after = [t if same else next(new) for t, same in zip(before, unchanged)]
        return tf.nest.pack_sequence_as(first, after)

    return call


def _dense(tensor: Any) -> Any:
    """The same tensor, but with a dense derivative, also through a gather."""
    known = tensor.dtype.is_floating and tensor.shape.is_fully_defined()
    return tf.reshape(tensor, tensor.shape) if known else tensor
