"""Several training steps in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.execution.xla_choice import refused_by_xla

# One call costs a third of a millisecond, as much as a whole meta-step of a small
# network. With a hundred steps in a call this cost no longer matters.
STEPS_PER_CALL = 100


def fuse(
    step: Callable[[Any], Any],
    steps: int,
    otherwise: Callable[[Any], Any],
    *,
    report: Callable[[Exception], None] | None = None,
) -> Any:
    """A Keras train function that runs `steps` steps in one XLA program.

    Keras's own `steps_per_execution` calls one compiled step several times. Here the
    program contains the loop over the steps and walks through stacked batches. If
    fewer than `steps` batches are left, the loop runs over these.

    Args:
        step: a training step, maps a batch to a dict of scalar logs.
        steps: int, batches in one call.
        otherwise: a train function for iterators whose batches have no fixed shape.
        report: called with the error if XLA cannot compile the program, which then
            runs without XLA; None raises the error.

    Returns:
        A function of an iterator over batches, or over the stacks of `stacked`. The
        function returns the logs of the last step, and raises `StopIteration` when
        the iterator is empty.
    """
    built: dict[Any, Any] = {}

    def function(iterator: Any) -> Any:
        spec = getattr(iterator, "element_spec", None)
        if spec is None or not all(
            t.shape.is_fully_defined() for t in tf.nest.flatten(spec)
        ):
            return otherwise(iterator)
        key = str(spec)
        if key not in built:
            built[key] = _working_program(step, steps, spec, report)
        count, logs = built[key](iterator)
        if count == 0:
            raise StopIteration
        return logs

    return function


class Stack(NamedTuple):
    """Consecutive batches as one element of a dataset: `[steps, tasks, ...]`."""

    batches: Any


def stacked(dataset: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Stacks the next batches while the current program is running.

    Args:
        dataset: endless dataset of batches with fixed shape.
        steps: int, batches in a stack.

    Returns:
        Dataset of `Stack`s.
    """
    stacks = dataset.batch(steps, drop_remainder=True)
    return stacks.map(lambda *batch: Stack(batch)).prefetch(2)


def _working_program(
    step: Callable[[Any], Any],
    steps: int,
    spec: Any,
    report: Callable[[Exception], None] | None,
) -> Any:
    """The program under XLA, or without XLA where XLA cannot compile the program."""
    run, program = _program(step, steps, spec, jit_compile=True)
    if report is not None:
        try:
            # The loop over no batches compiles the program and changes nothing.
            nothing = [tf.zeros([steps, *t.shape], t.dtype) for t in _one(spec)]
            run(nothing, tf.constant(0))
        except tf.errors.OpError as error:
            if not refused_by_xla(error):
                raise
            report(error)
            _, program = _program(step, steps, spec, jit_compile=False)
    return program


def _one(spec: Any) -> list[Any]:
    """The specs of one batch, flat."""
    if not isinstance(spec, Stack):
        return list(tf.nest.flatten(spec))
    stacks = tf.nest.flatten(spec.batches)
    return [tf.TensorSpec(t.shape[1:], t.dtype) for t in stacks]


def _program(
    step: Callable[[Any], Any], steps: int, spec: Any, *, jit_compile: bool
) -> tuple[Any, Any]:
    """The loop over stacked batches, and the function that reads and runs them."""
    nest = spec.batches if isinstance(spec, Stack) else spec
    one = tf.nest.pack_sequence_as(nest, _one(spec))
    # The step is traced alone first, because its outputs give the types of the loop's
    # variables.
    traced = tf.function(step, autograph=False).get_concrete_function(one)

    def walk(batches: list[Any], count: Any) -> list[Any]:
        def body(i: Any, logs: list[Any]) -> tuple[Any, list[Any]]:
            batch = [tf.gather(stack, i) for stack in batches]
            return i + 1, tf.nest.flatten(traced(*batch))

        logs = [tf.zeros(t.shape, t.dtype) for t in traced.outputs]
        _, logs = tf.while_loop(
            lambda i, logs: i < count, body, (0, logs), maximum_iterations=steps
        )
        return list(logs)

    run: Any = tf.function(walk, jit_compile=jit_compile, autograph=False)

    def read_and_run(iterator: Any) -> tuple[Any, Any]:
        if isinstance(spec, Stack):
            following = iterator.get_next_as_optional()
            count = steps * tf.cast(following.has_value(), tf.int32)
            stacks = tf.nest.flatten(following.get_value())
        else:
            count, stacks = _read(iterator, steps, spec)
        logs = run(stacks, count)
        return count, tf.nest.pack_sequence_as(traced.structured_outputs, logs)

    return run, tf.function(read_and_run, autograph=False)


def _read(iterator: Any, steps: int, spec: Any) -> tuple[Any, list[Any]]:
    """The number of batches read, at most `steps`, and the batches, padded by zeros."""

    def more(i: Any, arrays: Any, following: Any) -> Any:
        return tf.logical_and(i < steps, following.has_value())

    def read(i: Any, arrays: Any, following: Any) -> Any:
        batch = tf.nest.flatten(following.get_value())
        arrays = [a.write(i, b) for a, b in zip(arrays, batch)]
        # Never read a batch that this call does not need.
        following = tf.cond(
            i + 1 < steps,
            iterator.get_next_as_optional,
            lambda: tf.experimental.Optional.empty(spec),
        )
        return i + 1, arrays, following

    arrays = [
        tf.TensorArray(t.dtype, steps, element_shape=t.shape)
        for t in tf.nest.flatten(spec)
    ]
    first = iterator.get_next_as_optional()
    count, arrays, _ = tf.while_loop(more, read, (0, arrays, first))
    return count, [a.stack() for a in arrays]


def steps_of(total: int | None) -> int:
    """The largest divisor of the steps in an epoch that is at most a hundred.

    The result is a divisor so that each epoch ends at the end of a call.

    Args:
        total: int, steps in an epoch, or None if unknown.

    Returns:
        Int, steps in one call; a hundred if `total` is unknown.

    >>> steps_of(500), steps_of(70), steps_of(7), steps_of(101)
    (100, 70, 7, 1)
    """
    if not total:
        return STEPS_PER_CALL
    return max(n for n in range(1, STEPS_PER_CALL + 1) if total % n == 0)
