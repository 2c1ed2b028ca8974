"""A loop that keeps only its points, and recomputes each step when differentiated."""

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
    """The points `p_0 = first`, `p_{k+1} = step(k, p_k, learned, fixed)`.

    Backpropagation through a chain of steps keeps the activations of each step. This
    function keeps only the points. The derivative goes back over the points, one step
    at a time, and recomputes each step under a tape:

    `v_k = (d p_{k+1} / d p_k)^T v_{k+1} + d L / d p_k`

    The result is the same up to rounding. Peak memory is that of one step, for any
    number of steps; the price is one more forward pass per step. Both directions are
    loops in the graph, so the graph does not grow with the steps.

    Args:
        step: a pure function of tensors that returns a nest like `p_k`. The function
            is traced more than once, and all tensors that it depends on must be
            arguments.
        first: nest of tensors.
        learned: nest of further tensors in which the step is differentiated.
        fixed: nest of tensors in which the step is not differentiated.
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

    def forward(arrays: Any) -> list[Any]:
        return _forward(flat_step, arrays, sizes[0], steps)

    def run(*arrays: Any) -> Any:
        stacks = _opaque_call(forward, list(arrays))
        first, rest = arrays[: sizes[0]], list(arrays[sizes[0] :])
        moving = [i for i, t in enumerate(first) if t.dtype.is_floating]
        sought = [i for i in range(sizes[1]) if rest[i].dtype.is_floating]

        def backward(stacks: Any, rest: Any, upstream: Any) -> list[Any]:
            return _backward(flat_step, stacks, rest, sought, upstream, steps)

        def gradient(*upstream: Any) -> list[Any]:
            values = _opaque_call(backward, stacks, rest, list(upstream))
            places = [*moving, *(sizes[0] + i for i in sought)]
            found = dict(zip(places, values))
            return [found.get(i) for i in range(len(arrays))]

        return stacks, gradient

    arrays = [tf.convert_to_tensor(t) for t in tf.nest.flatten(like)]
    stacks = tf.nest.flatten(tf.custom_gradient(run)(*arrays))
    each = zip(*(tf.unstack(stack, num=steps + 1) for stack in stacks))
    return [tf.nest.pack_sequence_as(first, list(point)) for point in each]


def _forward(flat_step: Any, arrays: Any, count: int, steps: int) -> list[Any]:
    """The points, stacked `[steps + 1, ...]`."""
    first, rest = list(arrays[:count]), list(arrays[count:])
    kept = [
        tf.TensorArray(t.dtype, steps + 1, element_shape=t.shape).write(0, t)
        for t in first
    ]

    def body(k: Any, point: Any, kept: Any) -> Any:
        after = flat_step(k, list(point), rest)
        return k + 1, after, [a.write(k + 1, t) for a, t in zip(kept, after)]

    _, _, kept = _loop(body, steps, first, kept)
    return [a.stack() for a in kept]


def _backward(
    flat_step: Any, stacks: Any, rest: Any, sought: Any, upstream: Any, steps: int
) -> list[Any]:
    """Gradients of the floats of the first point, and of `rest` at indices `sought`."""
    moving = [i for i, s in enumerate(stacks) if s.dtype.is_floating]

    def body(j: Any, cotangents: Any, totals: Any) -> Any:
        k = steps - 1 - j
        point = [tf.gather(stack, k) for stack in stacks]
        inputs = [point[i] for i in moving] + [rest[i] for i in sought]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            after = flat_step(k, point, list(rest))
        gradients = tape.gradient(
            [after[i] for i in moving],
            inputs,
            output_gradients=list(cotangents),
            unconnected_gradients="zero",
        )
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        back = [g + tf.gather(upstream[i], k) for g, i in zip(gradients, moving)]
        more = [a + b for a, b in zip(totals, gradients[len(moving) :])]
        return j + 1, back, more

    last = [upstream[i][steps] for i in moving]
    zeros = [tf.zeros_like(rest[i]) for i in sought]
    _, cotangents, totals = _loop(body, steps, last, zeros)
    return [*cotangents, *totals]


def _loop(body: Any, steps: int, first: list[Any], second: list[Any]) -> Any:
    return tf.while_loop(
        lambda i, *_: i < steps,
        body,
        (tf.constant(0), first, second),
        parallel_iterations=1,
        maximum_iterations=steps,
    )


def _opaque_call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function that neither the graph optimiser nor a tape may enter.

    In a loop inside a loop, TensorFlow's graph optimiser turns large sums into
    variables that collide ("tmp_var already exists"). So this call is not inlined, and
    switches the optimiser off. The call is a bare operation, because every open tape
    would build a derivative of a call to the traced function. Building this derivative
    takes minutes, and it is never used: `points` defines the derivative.
    """
    call = tf.function(
        function, autograph=False, experimental_attributes={"_noinline": True}
    )
    traced = call.get_concrete_function(
        *tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), arguments)
    )
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    # Stateful calls wait for each other, so tasks would run one after another.
    stateful = any(op.op_def.is_stateful for op in traced.graph.get_operations())
    kind = (
        tf.raw_ops.StatefulPartitionedCall if stateful else tf.raw_ops.PartitionedCall
    )
    outputs = kind(
        args=[*tf.nest.flatten(arguments), *traced.captured_inputs],
        Tout=[output.dtype for output in traced.outputs],
        f=traced,
        config_proto=config.SerializeToString(),
    )
    return tf.nest.pack_sequence_as(traced.structured_outputs, outputs)
