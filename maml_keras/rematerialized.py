"""A loop that keeps its points and computes the rest again when differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def points(
    step: Callable[[Any, Any, Any, Any], Any],
    first: Any,
    learned: Any,
    fixed: Any,
    *,
    steps: int,
) -> list[Any]:
    """`p_0 = first`, `p_{k+1} = step(k, p_k, learned, fixed)`, for a bounded memory.

    Backpropagation through a chain of steps keeps every step's activations. Here only
    the points are kept; the derivative walks back over them and, one step at a time,

    `v_k = (d p_{k+1} / d p_k)^T v_{k+1} + d L / d p_k`

    with the step computed anew under a tape. The result is the same to rounding, peak
    memory that of one step whatever their number, the price one more forward pass per
    step. Both ways are loops in the graph, so the graph does not grow with the steps.

    Args:
        step: a pure function of tensors that returns a nest like `p_k`. It is traced
            more than once and must take all it depends on as arguments.
        first: nest of tensors.
        learned: nest of tensors that the step is differentiated in too.
        fixed: nest of tensors that it is not differentiated in.
        steps: int.

    Returns:
        The `steps + 1` points.

    >>> w = tf.constant(3.0)
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(w)
    ...     last = points(lambda k, p, learned, fixed: p * p, w, (), (), steps=2)[-1]
    >>> float(tape.gradient(last, w))  # d w^4 / d w
    108.0
    """
    like = first, learned, fixed
    sizes = [len(tf.nest.flatten(part)) for part in like]

    def flat_step(k: Any, point: list[Any], rest: list[Any]) -> list[Any]:
        parts = tf.nest.pack_sequence_as(like, [*point, *rest])
        return [tf.convert_to_tensor(t) for t in tf.nest.flatten(step(k, *parts))]

    def run(*arrays: Any) -> Any:
        stacks = _forward(flat_step, arrays[: sizes[0]], arrays[sizes[0] :], steps)

        def gradient(*upstream: Any) -> list[Any]:
            return _backward(flat_step, stacks, arrays, sizes, upstream, steps)

        return stacks, gradient

    arrays = [tf.convert_to_tensor(t) for t in tf.nest.flatten(like)]
    stacks = tf.nest.flatten(tf.custom_gradient(run)(*arrays))
    each = zip(*(tf.unstack(stack, num=steps + 1) for stack in stacks))
    return [tf.nest.pack_sequence_as(first, list(point)) for point in each]


def _forward(flat_step: Any, first: Any, rest: Any, steps: int) -> list[Any]:
    arrays = [
        tf.TensorArray(t.dtype, steps + 1, element_shape=t.shape).write(0, t)
        for t in first
    ]

    def body(k: Any, point: Any, arrays: Any) -> Any:
        point = flat_step(k, list(point), list(rest))
        return k + 1, point, [a.write(k + 1, t) for a, t in zip(arrays, point)]

    _, _, arrays = tf.while_loop(
        lambda k, *_: k < steps,
        body,
        (tf.constant(0), list(first), arrays),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return [a.stack() for a in arrays]


def _backward(
    flat_step: Any, stacks: Any, arrays: Any, sizes: Any, upstream: Any, steps: int
) -> list[Any]:
    """Gradients of `first` and `learned`; None for `fixed` and for integers."""
    rest = list(arrays[sizes[0] :])
    moving = [i for i, s in enumerate(stacks) if s.dtype.is_floating]
    learned = [i for i in range(sizes[1]) if rest[i].dtype.is_floating]

    def body(j: Any, cotangents: Any, totals: Any) -> Any:
        k = steps - 1 - j
        point = [tf.gather(stack, k) for stack in stacks]
        inputs = [point[i] for i in moving] + [rest[i] for i in learned]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            after = flat_step(k, point, rest)
        gradients = tape.gradient(
            [after[i] for i in moving],
            inputs,
            output_gradients=list(cotangents),
            unconnected_gradients="zero",
        )
        back = [
            tf.convert_to_tensor(g) + tf.gather(upstream[i], k)
            for g, i in zip(gradients, moving)
        ]
        more = [a + b for a, b in zip(totals, gradients[len(moving) :])]
        return j + 1, back, more

    start = (
        tf.constant(0),
        [tf.gather(upstream[i], steps) for i in moving],
        [tf.zeros_like(rest[i]) for i in learned],
    )
    _, cotangents, totals = tf.while_loop(
        lambda j, *_: j < steps,
        body,
        start,
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    result: list[Any] = [None] * len(arrays)
    for i, value in zip(moving, cotangents):
        result[i] = value
    for i, value in zip(learned, totals):
        result[sizes[0] + i] = value
    return result
