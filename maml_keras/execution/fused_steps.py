"""Several training steps in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# A call costs a third of a millisecond, as much as a whole meta-step of a small
# network: at a hundred steps a call it has vanished.
STEPS_PER_CALL = 100


def fuse(
    step: Callable[[Any], Any], steps: int, otherwise: Callable[[Any], Any]
) -> Any:
    """A Keras train function that runs `steps` steps in one XLA program.

    Keras's own `steps_per_execution` calls a compiled step so many times. Here the
    loop over the steps is inside the program, and walks through stacked batches. If
    the data ends before, it walks through as many as there are.

    Args:
        step: a training step, batch to a dict of scalar logs.
        steps: int, batches of a call.
        otherwise: a train function for iterators whose batches have no fixed shape.

    Returns:
        A function of an iterator, of batches or of what `stacked` made of them, that
        returns the last step's logs, and raises `StopIteration` when there is nothing
        left.
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
            built[key] = _program(step, steps, spec)
        count, logs = built[key](iterator)
        if count == 0:
            raise StopIteration
        return logs

    return function


class Stack(NamedTuple):
    """Consecutive batches as one element of a dataset: `[steps, tasks, ...]`."""

    batches: Any


def stacked(dataset: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Stacks batches while the program before is running.

    Args:
        dataset: endless, of batches of fixed shape.
        steps: int, batches of a stack.
    """
    stacks = dataset.batch(steps, drop_remainder=True)
    return stacks.map(lambda *batch: Stack(batch)).prefetch(2)


def _program(step: Callable[[Any], Any], steps: int, spec: Any) -> Any:
    if isinstance(spec, Stack):
        one = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape[1:], t.dtype), spec.batches
        )
    else:
        one = spec
    # Traced by itself: its outputs tell what the loop carries.
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

    run: Any = tf.function(walk, jit_compile=True, autograph=False)

    def read_and_run(iterator: Any) -> tuple[Any, Any]:
        if isinstance(spec, Stack):
            following = iterator.get_next_as_optional()
            count = steps * tf.cast(following.has_value(), tf.int32)
            stacks = tf.nest.flatten(following.get_value())
        else:
            count, stacks = _read(iterator, steps, spec)
        logs = run(stacks, count)
        return count, tf.nest.pack_sequence_as(traced.structured_outputs, logs)

    return tf.function(read_and_run, autograph=False)


def _read(iterator: Any, steps: int, spec: Any) -> tuple[Any, list[Any]]:
    """Up to `steps` batches, stacked; zeros where the data has ended."""

    def more(i: Any, arrays: Any, following: Any) -> Any:
        return tf.logical_and(i < steps, following.has_value())

    def read(i: Any, arrays: Any, following: Any) -> Any:
        batch = tf.nest.flatten(following.get_value())
        arrays = [a.write(i, b) for a, b in zip(arrays, batch)]
        # Not one batch further than this call needs.
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
    """The largest divisor of an epoch's steps that is at most a hundred.

    A divisor, so that an epoch ends where a call does; a hundred if the length of an
    epoch is not known.

    Args:
        total: int, steps of an epoch, or None.

    >>> steps_of(500), steps_of(70), steps_of(7), steps_of(101)
    (100, 70, 7, 1)
    """
    if not total:
        return STEPS_PER_CALL
    return max(n for n in range(1, STEPS_PER_CALL + 1) if total % n == 0)
