"""Task maps: run the function of one task over all tasks of a batch."""

from __future__ import annotations

import abc
import os
import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from maml_keras.backend.configured import Configured
from maml_keras.backend.task_axis import with_task_axis
from maml_keras.backend.tensorflow_log import without_messages
from maml_keras.execution.devices import has_gpu
from maml_keras.inner import traced_steps
from maml_keras.learner.graph_survey import survey
from maml_keras.learner.learner import Learner

TaskFunction = Callable[[Any], tuple[Any, Any]]


class TaskMap(Configured, abc.ABC):
    """Applies `task -> (averaged, stacked)` to each task of a batch.

    All maps give the same numbers, up to the order of float additions.

    >>> from maml_keras.execution import sequential
    >>> mean, squares = sequential()(lambda x: (x, x * x), tf.constant([1.0, 3.0]))
    >>> float(mean), squares.numpy().tolist()
    (2.0, [1.0, 9.0])
    """

    name: str
    in_step = True
    """Whether tasks that run at once make each operation at the same moment."""

    @abc.abstractmethod
    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        """Maps `function` over the first axis of `tasks`.

        Args:
            function: takes one task (a nest of tensors without the first axis) and
                returns two nests: the first is averaged over tasks, the second is
                stacked.
            tasks: a nest of tensors `[tasks, ...]`.

        Returns:
            The averages, and the stacked results `[tasks, ...]`.
        """

    def fitted(self, learner: Learner, task: Any) -> TaskMap:
        """The map that runs tasks of these shapes; by default this map itself.

        Args:
            learner: the model as a pure function.
            task: dict with `support_x`, a nest of tensors or specs `[tasks, ...]`.
        """
        return self

    def at_once(self, tasks: int) -> int:
        """How many tasks of a batch hold memory at the same time.

        Args:
            tasks: int, tasks in the batch.
        """
        return tasks

    def compiles(self, learner: Learner, task: Any) -> bool:
        """True if `compile(jit_compile="auto")` should use XLA for tasks like these."""
        return False

    def forget(self) -> None:
        """Drops what the map found out about the loss; `compile` calls this method."""

    def __repr__(self) -> str:
        return self.name


@keras.saving.register_keras_serializable(package="maml_keras")
class Loop(TaskMap):
    """A loop over tasks that computes loss and gradient of a task inside its body.

    A task's tape is freed at the end of the body. So memory grows with the tasks that
    run at the same time, not with the batch.

    Args:
        parallel_tasks: int, how many tasks may run at the same time.
        name: str, the name that `str()` shows.
    """

    in_step = False

    def __init__(self, parallel_tasks: int, *, name: str) -> None:
        self.parallel_tasks = parallel_tasks
        self.name = name

    def get_config(self) -> dict[str, Any]:
        return {"parallel_tasks": self.parallel_tasks, "name": self.name}

    def at_once(self, tasks: int) -> int:
        return min(tasks, self.parallel_tasks)

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        if tf.executing_eagerly():
            return _eager_loop(function, tasks)
        one = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape[1:], t.dtype), tasks
        )
        # The function is traced once, here, because its outputs give the types of the
        # accumulators. The loop's body calls the trace.
        traced = tf.function(function, autograph=False).get_concrete_function(one)
        average_like, stack_like = traced.structured_outputs
        count = tf.shape(tf.nest.flatten(tasks)[0])[0]
        sums = [tf.zeros(t.shape, t.dtype) for t in tf.nest.flatten(average_like)]
        stacks = [
            tf.TensorArray(t.dtype, size=count, element_shape=t.shape)
            for t in tf.nest.flatten(stack_like)
        ]

        def body(i: Any, sums: Any, stacks: Any) -> tuple[Any, Any, Any]:
            task = tf.nest.map_structure(lambda t: tf.gather(t, i), tasks)
            averaged, stacked = traced(*tf.nest.flatten(task))
            return (
                i + 1,
                [a + b for a, b in zip(sums, tf.nest.flatten(averaged))],
                [a.write(i, b) for a, b in zip(stacks, tf.nest.flatten(stacked))],
            )

        _, sums, stacks = tf.while_loop(
            lambda i, *_: i < count,
            body,
            (tf.constant(0), sums, stacks),
            parallel_iterations=self.parallel_tasks,
        )
        averages = [total / tf.cast(count, total.dtype) for total in sums]
        return (
            tf.nest.pack_sequence_as(average_like, averages),
            tf.nest.pack_sequence_as(stack_like, [s.stack() for s in stacks]),
        )


# Words in TensorFlow's errors about an operation that has no form with a task axis.
_NO_TASK_AXIS = ("pfor", "loop invariant", "'variant'")


@keras.saving.register_keras_serializable(package="maml_keras")
class Vectorized(TaskMap):
    """All tasks at once: each operation gets a task axis.

    This map is the fastest for small dense networks, whose cost is the number of
    operations. Keras's convolutions and max-pooling run in forms that have a task axis
    (see `with_task_axis`). `Vectorized` refuses operations that would silently fall
    back to a serial loop, such as `tf.nn.conv2d` with a different filter for each task.

    Args:
        otherwise: function of the refused operation's name that returns the map to
            use in place of this one; None raises an error.
    """

    name = "vectorized"

    def __init__(self, *, otherwise: Callable[[str], TaskMap] | None = None) -> None:
        self._otherwise = otherwise

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        try:
            with traced_steps.in_python(), with_task_axis(), without_messages():
                averaged, stacked = tf.vectorized_map(
                    function, tasks, fallback_to_while_loop=False
                )
        except (TypeError, ValueError) as error:
            # A TypeError comes from the stacks of a loop, which have no task axis.
            if not any(word in str(error) for word in _NO_TASK_AXIS):
                raise
            operation = _refused_operation(error)
            if self._otherwise is not None:
                return self._otherwise(operation)(function, tasks)
            raise ValueError(
                "`task_map='vectorized'` must be able to give every operation of the "
                "model, the loss and the update rule a task axis. Received: "
                f"{operation}, which has none (as dropout, recurrent loops and direct "
                "calls of tf.nn.conv2d). Use task_map='auto' or 'parallel'."
            ) from error
        return tf.nest.map_structure(
            lambda t: tf.reduce_mean(t, axis=0), averaged
        ), stacked

    def compiles(self, learner: Learner, task: Any) -> bool:
        policies = [layer.dtype_policy for layer in learner.model._flatten_layers()]
        if any(p.compute_dtype != p.variable_dtype for p in policies):
            return False  # XLA skips roundings to half precision: other numbers.
        if is_op_determinism_enabled():  # XLA refuses some deterministic operations.
            return False
        seen = survey(learner, one_support(task))
        # XLA cannot compile the second derivative of a concatenation.
        return (
            seen.products <= _MOST_PRODUCTS
            and (seen.largest <= LARGEST_PRODUCT or has_gpu())
            and not {"ConcatV2", "Concat"} & seen.operations
        )


@keras.saving.register_keras_serializable(package="maml_keras")
class Chunked(TaskMap):
    """A loop over chunks of tasks, with another map for the tasks of a chunk.

    `Chunked` gives the same numbers as the map inside, in the memory of one chunk.

    Args:
        tasks: int, tasks in a chunk; must divide the number of tasks in a batch.
        task_map: a `TaskMap` for the tasks of a chunk; None for `Vectorized()`.

    Raises:
        ValueError: if `tasks` is not positive, or, in a call, does not divide the
            number of tasks.

    >>> chunked = Chunked(2)
    >>> mean, squares = chunked(lambda x: (x, x * x), tf.constant([1.0, 2.0, 3.0, 6.0]))
    >>> float(mean), squares.numpy().tolist()
    (3.0, [1.0, 4.0, 9.0, 36.0])
    """

    name = "chunked"

    def __init__(self, tasks: int, task_map: TaskMap | None = None) -> None:
        if isinstance(tasks, bool) or int(tasks) != tasks or tasks < 1:
            raise ValueError(
                f"`tasks` must be a positive integer. Received: tasks={tasks!r}."
            )
        self.tasks = int(tasks)
        self.task_map = task_map or Vectorized()
        self.in_step = self.task_map.in_step

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        count = tf.nest.flatten(tasks)[0].shape[0]
        if count is None or count % self.tasks:
            raise ValueError(
                "`tasks` of Chunked must divide the number of tasks in a batch. "
                f"Received: tasks={self.tasks} and a batch of {count} tasks. Choose a "
                "divisor, or a batch size that is a multiple of `tasks`."
            )
        chunks = tf.nest.map_structure(
            lambda t: tf.reshape(t, [count // self.tasks, self.tasks, *t.shape[1:]]),
            tasks,
        )
        averaged, stacked = sequential()(lambda c: self.task_map(function, c), chunks)
        return averaged, tf.nest.map_structure(
            lambda t: tf.reshape(t, tf.concat([[count], tf.shape(t)[2:]], axis=0)),
            stacked,
        )

    def at_once(self, tasks: int) -> int:
        return self.task_map.at_once(min(tasks, self.tasks))

    def fitted(self, learner: Learner, task: Any) -> TaskMap:
        return Chunked(self.tasks, self.task_map.fitted(learner, task))

    def compiles(self, learner: Learner, task: Any) -> bool:
        return self.task_map.compiles(learner, task)

    def get_config(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks,
            "task_map": keras.saving.serialize_keras_object(self.task_map),
        }

    def __repr__(self) -> str:
        return f"chunked ({self.tasks} tasks at a time, {self.task_map})"


def _refused_operation(error: Exception) -> str:
    """The operation that TensorFlow's error names, in words for a message."""
    named = re.search(r"""(?:op: |of op )["'](\w+)["']""", str(error))
    return f"the operation {named.group(1)}" if named else "a loop"


def sequential() -> TaskMap:
    """One task after another; needs the least memory.

    >>> str(sequential())
    'sequential'
    """
    return Loop(1, name="sequential")


def parallel() -> TaskMap:
    """As many tasks at the same time as there are cores.

    >>> str(parallel())
    'parallel'
    """
    return Loop(os.cpu_count() or 1, name="parallel")


def vectorized() -> TaskMap:
    """All tasks in one graph with a task axis.

    >>> str(vectorized())
    'vectorized'
    """
    return Vectorized()


def _eager_loop(function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
    each = [tf.unstack(t) for t in tf.nest.flatten(tasks)]
    results = [function(tf.nest.pack_sequence_as(tasks, list(t))) for t in zip(*each)]
    averaged = tf.nest.map_structure(
        lambda *values: tf.add_n(values) / len(values), *[a for a, _ in results]
    )
    stacked = tf.nest.map_structure(
        lambda *values: tf.stack(values), *[s for _, s in results]
    )
    return averaged, stacked


# The most operations in a matrix product of one task for which vectorising gains time.
# Measured on dense networks of 32 to 512 units, with 10 and 100 examples.
LARGEST_PRODUCT = 2.0**19

# The most matrix products in a pass for which XLA is worthwhile. For more products, as
# in an unrolled recurrent network, XLA compiles for minutes and the compiled code is
# slower than the graph.
_MOST_PRODUCTS = 32


def one_support(task: Any) -> Any:
    """The specification of one task's support inputs, `[examples, ...]`."""
    return tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape[1:], t.dtype), task["support_x"]
    )
