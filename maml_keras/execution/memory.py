"""How much memory meta-training will need, found from the traced step of one task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import psutil
import tensorflow as tf

from maml_keras.execution.live_memory import live_bytes, size_of
from maml_keras.execution.task_maps import TaskFunction, TaskMap
from maml_keras.inner.loop import InnerLoop
from maml_keras.learner import episode_checks
from maml_keras.learner.graph_survey import nodes_of
from maml_keras.learner.learner import Learner

MEGABYTE = 2.0**20

# TensorFlow's own memory for tracing and running a step, beside the tensors. The three
# numbers are fitted to the growth of a process on six networks of 300 to 5,000
# operations; tests/execution/test_memory_of_processes.py measures them again.
_BYTES_TO_START = 18 * MEGABYTE
_BYTES_OF_AN_OPERATION = 0.047 * MEGABYTE
# A vectorised graph is built twice: without and with its task axis.
_GRAPHS_IN_STEP = 1.5
# Tasks that run beside each other on several cores peak at different moments. The
# second task of an 84x84 conv-4 added three quarters of its peak.
_SHARE_BESIDE = 0.75
# One batch in use, and the batches that a pipeline holds ready.
_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """The memory that training adds to the process, in bytes.

    Attributes:
        task_bytes: tensors of one task that live at the same time, such as the
            activations of each inner step, kept for the second derivative.
        tasks_at_once: int, tasks that the task map runs at the same time.
        tasks_bytes: tensors of these tasks. Tasks in a loop on several cores peak at
            different moments, so this is less than their number times `task_bytes`.
        state_bytes: meta-gradients and the state of the outer optimizer.
        data_bytes: the batch, and the batches that the pipeline holds ready.
        program_bytes: TensorFlow's own memory for the traced step.
        available_bytes: free memory of the machine.
        advice: what to change if the training does not fit, the cheapest first.

    >>> estimate = MemoryEstimate(10**6, 2, 2 * 10**6, 10**5, 10**4, 10**7, 10**9)
    >>> estimate.total_bytes, estimate.fits
    (12110000, True)
    """

    task_bytes: int
    tasks_at_once: int
    tasks_bytes: int
    state_bytes: int
    data_bytes: int
    program_bytes: int
    available_bytes: int
    advice: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        tensors = self.tasks_bytes + self.state_bytes + self.data_bytes
        return tensors + self.program_bytes

    @property
    def fits(self) -> bool:
        """True if the free memory suffices."""
        return self.total_bytes <= self.available_bytes

    def __str__(self) -> str:
        tasks = "task" if self.tasks_at_once == 1 else "tasks"
        parts = (
            f"{_words(self.tasks_bytes)} for {self.tasks_at_once} {tasks} at once, "
            f"{_words(self.state_bytes)} of gradients and optimizer, "
            f"{_words(self.data_bytes)} of data, {_words(self.program_bytes)} of "
            "program"
        )
        found = (
            f"about {_words(self.total_bytes)}: {parts}. "
            f"{_words(self.available_bytes)} are free."
        )
        return " ".join([found, *self.advice])


class OneTask(TaskMap):
    """Runs the first task of a batch without a loop, for a trace to be looked at."""

    name = "one task"

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        averaged, stacked = function(tf.nest.map_structure(lambda t: t[0], tasks))
        return averaged, tf.nest.map_structure(lambda t: t[None], stacked)


def estimate(
    step: Callable[[Any], Any],
    batch: Any,
    *,
    learner: Learner,
    inner: InnerLoop,
    task_map: TaskMap,
    variables: list[Any],
    optimizer: keras.optimizers.Optimizer | None,
) -> MemoryEstimate:
    """The estimate for a meta-step.

    Args:
        step: maps a batch of one task to `(loss, gradients, predictions)`.
        batch: `(task, query_y)`, arrays or specs `[tasks, examples, ...]`.
        learner: the model as a pure function.
        inner: the inner loop.
        task_map: the map that training will use.
        variables: the variables that the outer optimizer trains.
        optimizer: None for an optimizer without state.

    Raises:
        ValueError: if a size of the batch is unknown, or its form is wrong.
    """
    specs = tf.nest.map_structure(_spec, batch)
    task, query_y, _ = keras.utils.unpack_x_y_sample_weight(specs)
    episode_checks.check_targets(query_y)
    episode_checks.check_batch(task, query_y)
    for spec in tf.nest.flatten(specs):
        if not spec.shape.is_fully_defined():
            raise ValueError(
                "`batch` must have known sizes, because the memory depends on them. "
                f"Received: shape={tuple(spec.shape)}. Pass one batch of arrays, such "
                "as `next(iter(dataset))`."
            )
    tasks = tf.nest.flatten(query_y)[0].shape[0]
    chosen = task_map.fitted(learner, task)
    one = tf.nest.map_structure(
        lambda t: tf.TensorSpec([1, *t.shape[1:]], t.dtype), specs
    )
    traced = tf.function(step, autograph=False).get_concrete_function(one)
    weights = sum(size_of(v.value) for v in variables)
    predictions = sum(map(size_of, tf.nest.flatten(traced.structured_outputs[2])))
    task_bytes = live_bytes(traced.graph, iterations=max(1, inner.steps))
    at_once = chosen.at_once(tasks)
    beside = (at_once - 1) * (1.0 if chosen.in_step else _SHARE_BESIDE)
    graphs = _GRAPHS_IN_STEP if chosen.in_step else 1.0
    program = graphs * len(nodes_of(traced.graph)) * _BYTES_OF_AN_OPERATION
    batches = _BATCHES * sum(map(size_of, tf.nest.flatten(specs)))
    found = MemoryEstimate(
        task_bytes=task_bytes,
        tasks_at_once=at_once,
        tasks_bytes=int(task_bytes * (1 + beside)),
        state_bytes=weights * (1 + _slots(optimizer)),
        data_bytes=batches + tasks * predictions,
        program_bytes=int(_BYTES_TO_START + program),
        available_bytes=psutil.virtual_memory().available,
    )
    if found.fits:
        return found
    return dataclasses.replace(found, advice=_advice(found, chosen, tasks, inner))


def _spec(value: Any) -> tf.TensorSpec:
    if isinstance(value, tf.TensorSpec):
        return value
    value = tf.convert_to_tensor(value)
    return tf.TensorSpec(value.shape, value.dtype)


def _slots(optimizer: keras.optimizers.Optimizer | None) -> int:
    """How many numbers an optimizer remembers for each weight."""
    if optimizer is None:
        return 0
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    copy.build([keras.Variable([0.0, 0.0, 0.0])])
    return sum(tuple(v.shape) == (3,) for v in copy.variables)


def _advice(
    found: MemoryEstimate, task_map: TaskMap, tasks: int, inner: InnerLoop
) -> tuple[str, ...]:
    """What to change so that the training fits, the cheapest first."""
    rest = found.total_bytes - found.tasks_bytes
    room = (found.available_bytes - rest) // max(1, found.task_bytes)
    advice = []
    if inner.steps >= 2 and not inner.rematerialize:
        advice.append(
            "`InnerLoop(rematerialize=True)` keeps the activations of one inner step "
            f"instead of {inner.steps}."
        )
    if found.tasks_at_once > 1 and room >= 1:
        fitting = max(n for n in range(1, tasks + 1) if tasks % n == 0 and n <= room)
        serial = fitting == 1 or not task_map.in_step
        advice.append(
            "`MAML(task_map='sequential')` runs one task at a time."
            if serial
            else f"`MAML(task_map=Chunked({fitting}))` runs {fitting} tasks at once."
        )
    if inner.second_order:
        advice.append("`meta_gradient=FirstOrder()` keeps no second derivatives.")
    return (
        "This will not fit.",
        *(advice or ["Use fewer examples in a task, or a smaller network."]),
    )


def _words(size: float) -> str:
    size /= MEGABYTE
    return f"{size / 1024:.1f} GB" if size >= 1024 else f"{size:.3g} MB"
