"""The compiled function of an evaluation: metric, loss and calibration by step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.evaluation import calibration, output_forms, query_passes
from maml_keras.evaluation.metrics import Metric, mean_of_task
from maml_keras.evaluation.output_forms import Classes, Labels
from maml_keras.learner import masks
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.weights import QUERY, support_of
from maml_keras.outer.maml import MAML
from maml_keras.outer.preparations import in_unit


class Predicted(NamedTuple):
    """Predictions of the queries of many tasks at each step, and their losses.

    Attributes:
        losses: floats `[tasks, steps + 1]`.
        outputs: for each step, predictions `[tasks, queries, ...]`.
        known: for each step, the masks of the predictions, by `masks.taken`.
    """

    losses: Any
    outputs: Sequence[Any]
    known: Sequence[dict[int, Any]]


def compiled(
    mamls: Sequence[MAML], steps: int, name: str, function: Metric | None, queries: str
) -> Any:
    """`(task, query_y, rate) -> [(metric, loss), ...]`, both `[tasks, steps + 1]`.

    One pair for each model and, for several models, one for their mean at last. If the
    outputs are probabilities of classes, a pair becomes a triple with
    `[tasks, steps + 1, ...]`, what `Calibration` needs.

    Args:
        mamls: the models; the function of a single one is kept with it.
        steps: int, adaptation steps.
        name: str, the metric's name.
        function: the metric; None for the loss.
        queries: `"together"` or `"alone"`.
    """
    first = mamls[0]
    cache = first.__dict__.setdefault("_curves", {}) if len(mamls) == 1 else {}
    key = (steps, function or name, first._outer_loss, queries)
    query_passes.get(queries)  # Refuses an unknown name.
    if key not in cache:

        def curve(task: Any, query_y: Any, rate: Any) -> list[Any]:
            # Losses and metrics are in the original unit.
            query_y = in_unit(first, query_y)
            found = [
                _predicted(maml, steps, queries, task, query_y, rate) for maml in mamls
            ]
            if len(mamls) > 1:
                found.append(_mean(first._outer_loss, query_y, found))
            return [_measured(first._outer_loss, function, query_y, p) for p in found]

        cache[key] = tf.function(curve, autograph=False, reduce_retracing=True)
    return cache[key]


def _predicted(
    maml: MAML, steps: int, queries: str, task: Any, query_y: Any, rate: Any
) -> Predicted:
    """The predictions of one model after 0, 1, .. steps."""
    learner, predict = maml.learner, query_passes.get(queries)

    def one(element: dict[str, Any]) -> tuple[Any, Any]:
        task, query_y = element["task"], element["query_y"]
        points = maml.inner.trajectory(
            learner,
            learner.weights(),
            learner.state(),
            *support_of(task),
            steps=steps,
            learning_rate=rate,
        )
        outputs = [
            predict(
                query_passes.answers(learner, p.weights, p.state, task, step=k),
                task["query_x"],
                task.get(QUERY),
            )
            for k, p in enumerate(points)
        ]
        outputs = [in_unit(maml, output) for output in outputs]
        losses = [maml._outer_loss(query_y, output) for output in outputs]
        known = [masks.taken(output) for output in outputs]
        return (), (tf.stack(losses), outputs, known)

    task_map = maml.task_map.fitted(learner, task)
    mapped = task_map(one, {"task": task, "query_y": query_y})
    return Predicted(*mapped[1])


def _mean(loss: PureLoss, query_y: Any, found: Sequence[Predicted]) -> Predicted:
    """The mean of several models' probabilities, or of their numbers."""
    form, known = output_forms.of(loss), found[0].known
    outputs = [form.mean(list(each)) for each in zip(*(p.outputs for p in found))]

    def of_task(parts: Any) -> Any:
        y_true, y_pred, kept = parts
        return loss(y_true, masks.put_back(y_pred, kept))

    losses = _of_tasks(of_task, query_y, outputs, known)
    return Predicted(tf.stack(losses, axis=1), outputs, known)


def _measured(
    loss: PureLoss, function: Metric | None, query_y: Any, predicted: Predicted
) -> tuple[Any, ...]:
    """Metric, loss, and what calibration needs if it is defined."""
    losses, outputs, known = predicted
    form = output_forms.of(loss)
    statistics = []
    if isinstance(form, (Classes, Labels)) and not tf.nest.is_nested(outputs[0]):
        each = [
            calibration.of_outputs(form, query_y, output, mask)
            for output, mask in zip(outputs, known)
        ]
        statistics = [tf.stack(each, axis=1)]
    if function is None:
        return losses, losses, *statistics
    # The metric stays out of the task map: it may use operations that have no form
    # with a task axis.
    mean = functools.partial(mean_of_task, function)
    values = _of_tasks(mean, query_y, outputs, known)
    return tf.stack(values, axis=1), losses, *statistics


def _of_tasks(
    function: Callable[[Any], Any],
    query_y: Any,
    outputs: Sequence[Any],
    known: Sequence[Any],
) -> list[Any]:
    """`function((y_true, y_pred, masks))` of each task, for each step `[tasks]`."""
    return [
        tf.map_fn(function, parts, fn_output_signature=tf.float32)
        for parts in zip(itertools.repeat(query_y), outputs, known)
    ]
