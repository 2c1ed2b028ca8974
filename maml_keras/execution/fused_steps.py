"""Several training steps in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.backend.graph_passes import without_idle_passes
from maml_keras.execution.step_by_step import Checks, Step
from maml_keras.execution.xla_choice import refused_by_xla

# One call costs a third of a millisecond, as much as a whole meta-step of a small
# network. With a hundred steps in a call this cost no longer matters.
STEPS_PER_CALL = 100


def fuse(
    step: Step,
    steps: int,
    otherwise: Callable[[Any], Any],
    *,
    jit_compile: bool,
    check: Checks,
    mend: Callable[[Any], Any],
    report: Callable[[Exception], None] | None = None,
) -> Any:
    """A Keras train function that runs `steps` steps in one program.

    Keras's own `steps_per_execution` calls one compiled step several times. Here the
    program contains the loop over the steps and walks through stacked batches. If
    fewer than `steps` batches are left, the loop runs over these. The program ends at
    a step that is not taken, and continues behind this step after `mend`.

    Args:
        step: a training step, batch to a dict of scalar logs and whether it was taken.
        steps: int, batches of a call.
        otherwise: a train function for iterators whose batches have no fixed shape.
        jit_compile: bool, whether XLA compiles the program.
        check: looks at batches before their steps.
        mend: called with a batch whose step was not taken; returns the logs or raises.
        report: called with the error if XLA cannot compile the program, which then
            runs without XLA; None raises the error.

    Returns:
        A function of an iterator over batches, or over the stacks of `stacked`. The
        function returns the logs of the last step, and raises `StopIteration` when
        the iterator is empty.
    """
    built: dict[Any, _Program] = {}

    def function(iterator: Any) -> Any:
        spec = getattr(iterator, "element_spec", None)
        if spec is None or not all(
            t.shape.is_fully_defined() for t in tf.nest.flatten(spec)
        ):
            return otherwise(iterator)
        key = str(spec)
        if key not in built:
            built[key] = _Program(step, steps, spec, jit_compile, report)
        program = built[key]
        count, stacks = program.read(iterator)
        if count == 0:
            raise StopIteration
        end = program.fitting(stacks, count, check)
        done, logs = 0, None
        while done < end:
            done, taken, logs = program.run(stacks, done, end)
            if not taken:
                logs = mend(program.batch(stacks, done))
                done += 1
        if end < count:
            check(program.batch(stacks, end))
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


class _Program:
    """Steps over stacked batches of one fixed shape.

    Args:
        step: a training step.
        steps: int, batches of a call.
        spec: of the iterator's elements, batches or `Stack`s.
        jit_compile: as in `fuse`.
        report: as in `fuse`.
    """

    def __init__(
        self,
        step: Step,
        steps: int,
        spec: Any,
        jit_compile: bool,
        report: Callable[[Exception], None] | None,
    ) -> None:
        self._jit_compile = jit_compile
        self._report = report
        self.is_stack = isinstance(spec, Stack)
        self.one = spec
        if self.is_stack:
            self.one = tf.nest.map_structure(
                lambda t: tf.TensorSpec(t.shape[1:], t.dtype), spec.batches
            )
        self.steps = steps
        self._step = step
        self._walk: Any = None

        def read(iterator: Any) -> Any:
            return _read(iterator, steps, spec)

        self._read = tf.function(read, autograph=False)

    def read(self, iterator: Any) -> tuple[int, list[Any]]:
        """How many batches came, and their arrays `[steps, tasks, ...]`."""
        if self.is_stack:
            stack = next(iterator, None)
            return (0, []) if stack is None else (self.steps, tf.nest.flatten(stack))
        count, stacks = self._read(iterator)
        return int(count), stacks

    def batch(self, stacks: list[Any], index: int) -> Any:
        """One batch."""
        return tf.nest.pack_sequence_as(self.one, [stack[index] for stack in stacks])

    def fitting(self, stacks: list[Any], count: int, check: Checks) -> int:
        """How many batches come before the first whose values do not fit."""
        if check.values_fit(tf.nest.pack_sequence_as(self.one, stacks)):
            return count
        fits = (check.values_fit(self.batch(stacks, i)) for i in range(count))
        return next((i for i, fit in enumerate(fits) if not fit), count)

    def run(self, stacks: list[Any], done: int, end: int) -> tuple[int, bool, Any]:
        """Steps from `done` to `end`, or to the first that is not taken.

        Returns:
            How many are taken by now, whether all are that were tried, and the logs.
        """
        if self._walk is None:
            self._walk = self._working(stacks)
        taken, intact, logs = self._walk(stacks, tf.constant(done), tf.constant(end))
        return int(taken), bool(intact), logs

    def _working(self, stacks: list[Any]) -> Any:
        """The loop, without XLA where XLA cannot compile the loop."""
        walk = self._compiled(jit_compile=self._jit_compile)
        if self._report is None or not self._jit_compile:
            return walk
        try:
            # The loop over no batches compiles the program and changes nothing.
            walk(stacks, tf.constant(0), tf.constant(0))
        except tf.errors.OpError as error:
            if not refused_by_xla(error):
                raise
            self._report(error)
            return self._compiled(jit_compile=False)
        return walk

    def _compiled(self, *, jit_compile: bool) -> Any:
        # Traced by itself: its outputs tell what the loop carries.
        traced = tf.function(self._step, autograph=False).get_concrete_function(
            self.one
        )
        like, _ = traced.structured_outputs

        def walk(stacks: list[Any], done: Any, end: Any) -> Any:
            def body(i: Any, intact: Any, logs: list[Any]) -> Any:
                logs, intact = traced(*[tf.gather(stack, i) for stack in stacks])
                return i + tf.cast(intact, tf.int32), intact, tf.nest.flatten(logs)

            blank = [tf.zeros(t.shape, t.dtype) for t in tf.nest.flatten(like)]
            taken, intact, logs = tf.while_loop(
                lambda i, intact, logs: (i < end) & intact,
                body,
                (done, tf.constant(True), blank),
                maximum_iterations=self.steps,
            )
            return taken, intact, tf.nest.pack_sequence_as(like, logs)

        function = tf.function(walk, jit_compile=jit_compile, autograph=False)
        return function if jit_compile else without_idle_passes(function)


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
