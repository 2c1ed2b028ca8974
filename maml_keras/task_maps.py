"""Run one task's function over all tasks of a batch."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.learner import is_seed

TaskFunction = Callable[[Any], tuple[Any, Any]]


class TaskMap(abc.ABC):
    """Applies `task -> (averaged, stacked)` to each task of a batch.

    Every map gives the same numbers, up to the order of float additions.
    """

    name: str

    @abc.abstractmethod
    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        """Maps over the first axis of `tasks`.

        Args:
            function: takes one task (a nest of tensors without the first axis) and
                returns two nests: one to average over tasks, one to stack.
            tasks: a nest of tensors `[tasks, ...]`.

        Returns:
            The averages, and the stacked results `[tasks, ...]`.
        """

    def __repr__(self) -> str:
        return self.name


class Loop(TaskMap):
    """A loop over tasks, with the whole value-and-gradient inside its body.

    The tape of a task is freed when its body ends: memory is that of the tasks in
    flight, not of the batch.

    Args:
        parallel_tasks: int, how many tasks may be in flight.
        name: str.
    """

    def __init__(self, parallel_tasks: int, *, name: str) -> None:
        self.parallel_tasks = parallel_tasks
        self.name = name

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        if tf.executing_eagerly():
            return _eager_loop(function, tasks)
        one = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape[1:], t.dtype), tasks
        )
        # Traced once, called in the body: its outputs tell the accumulators' types.
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


class Vectorized(TaskMap):
    """All tasks at once, each operation with one more axis.

    Fastest for small dense networks, where the cost is the number of operations.
    It refuses operations that would silently fall back to a serial loop, such as a
    convolution with a filter for each task.
    """

    name = "vectorized"

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        try:
            averaged, stacked = tf.vectorized_map(
                function, tasks, fallback_to_while_loop=False
            )
        except ValueError as error:
            if "pfor" not in str(error) and "loop invariant" not in str(error):
                raise
            raise ValueError(
                "`task_map='vectorized'` does not fit this model: an operation of it "
                "has no form with a task axis (convolutions, dropout and recurrent "
                "loops have none). Use task_map='auto' or 'parallel'."
            ) from error
        return tf.nest.map_structure(
            lambda t: tf.reduce_mean(t, axis=0), averaged
        ), stacked


class Auto(TaskMap):
    """The map that is exact and fastest for a model, chosen from its layers.

    Args:
        model: the learner's model.

    `reason` says what was chosen and why.
    """

    name = "auto"

    def __init__(self, model: keras.Model) -> None:
        unknown = sorted(
            {
                type(layer).__name__
                for layer in model._flatten_layers()
                if not _vectorizes(layer)
            }
            | {v.path for v in model.non_trainable_variables if is_seed(v)}
        )
        if unknown:
            self.chosen: TaskMap = parallel()
            self.reason = f"{self.chosen}: {', '.join(unknown)} may not vectorise"
        else:
            self.chosen = vectorized()
            self.reason = f"{self.chosen}: every layer vectorises over tasks"

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        return self.chosen(function, tasks)

    def __repr__(self) -> str:
        return f"auto ({self.reason})"


def sequential() -> TaskMap:
    """One task after the other: the least memory."""
    return Loop(1, name="sequential")


def parallel() -> TaskMap:
    """As many tasks in flight as there are cores."""
    return Loop(os.cpu_count() or 1, name="parallel")


def vectorized() -> TaskMap:
    """All tasks in one graph with a task axis."""
    return Vectorized()


MAPS = {"sequential": sequential, "parallel": parallel, "vectorized": vectorized}


def get(identifier: str | TaskMap, model: keras.Model) -> TaskMap:
    """The task map of that name.

    Args:
        identifier: `"auto"`, `"sequential"`, `"parallel"`, `"vectorized"`, or a
            `TaskMap`, which is returned.
        model: the learner's model, by which `"auto"` chooses.

    Raises:
        ValueError: if there is no map of that name.
    """
    if isinstance(identifier, TaskMap):
        return identifier
    if identifier == "auto":
        return Auto(model)
    if identifier not in MAPS:
        raise ValueError(
            f"`task_map` must be one of {sorted([*MAPS, 'auto'])}, or a TaskMap. "
            f"Received: task_map={identifier!r}."
        )
    return MAPS[identifier]()


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


# Layers whose operations keep a task axis on weights and inputs alike. A convolution
# does not (its filter must be shared), nor does a recurrent loop that is not unrolled.
# Dropout is here for its rate of zero, inside attention; else its seed gives it away.
_VECTORIZING = (
    "Activation Add Average Concatenate Dense Dropout EinsumDense ELU "
    "Embedding Flatten Functional GlobalAveragePooling1D "
    "GlobalAveragePooling2D GroupNormalization InputLayer LayerNormalization LeakyReLU "
    "MultiHeadAttention Multiply Normalization Permute PReLU ReLU Rescaling Reshape "
    "RMSNormalization Sequential Softmax Subtract BatchNormalization"
).split()


def _vectorizes(layer: keras.layers.Layer) -> bool:
    kind = type(layer)
    return kind.__name__ in _VECTORIZING and kind.__module__.startswith("keras.")
