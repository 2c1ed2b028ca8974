"""Measures how well a learned initialisation adapts to new tasks."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.evaluation import query_passes
from maml_keras.evaluation.batches import batches, batches_left, expected, first_tasks
from maml_keras.evaluation.metrics import (
    Metric,
    Named,
    direction,
    mean_of_task,
    named_metric,
)
from maml_keras.evaluation.result import (
    Evaluation,
    diverged_tasks,
    mean_after,
    queries_of,
)
from maml_keras.inner.loop import check_steps
from maml_keras.inner.rules import checked_rate
from maml_keras.learner import episode_checks, masks
from maml_keras.learner.weights import QUERY, queries_there, support_of
from maml_keras.outer import fit_checks
from maml_keras.outer.maml import MAML
from maml_keras.outer.preparations import adopt, in_unit


def evaluate_episodes(
    maml: MAML,
    episodes: Any,
    *,
    steps: int | None = None,
    num_tasks: int = 600,
    metric: Named = None,
    higher_is_better: bool | None = None,
    queries: str = "together",
    learning_rate: float | None = None,
    verbose: str | int = "auto",
) -> Evaluation:
    """The metric on `num_tasks` tasks at every adaptation step from 0 to `steps`.

    `m_i(k) = mean(metric(query_i; phi_k))`, averaged over tasks i. The model and its
    moving statistics do not change.

    Args:
        maml: the model.
        episodes: batches `(task, query_y)`: a `tf.data.Dataset` or any iterable.
            All queries count equally, but for those that `query_weight` weighs: sample
            weights, the third entry of a batch, are ignored.
        steps: int, K; None for the number in training.
        num_tasks: int, how many tasks to take; fewer if `episodes` ends before.
        metric: `"accuracy"`, `"loss"`, or `f(y_true, y_pred)` that returns a value for
            each example. None for accuracy with class labels, else the outer loss.
        higher_is_better: bool, for your own function. None decides by the metric's
            name: True for accuracies, False for losses and errors.
        queries: `"together"`: one pass predicts all queries of a task. `"alone"`: each
            query has its own pass, as in a product that gets one query at a time. The
            two differ only under a batch-norm policy that normalises queries together,
            such as `"transductive"`.
        learning_rate: float, the inner rate of all weights in place of the rule's own.
        verbose: 0 for silence, else a progress bar.

    Returns:
        An `Evaluation`; its `str()` states the figure and all its conditions.

    Raises:
        ValueError: if there are no episodes, or an argument does not fit.

    >>> from maml_keras import InnerLoop
    >>> from maml_keras import SGD
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> x = np.ones([4, 5, 1], "float32")
    >>> batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 2 * x
    >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
    >>> evaluate_episodes(maml, [batch], steps=3, verbose=0).curve.shape
    (4,)
    """
    steps = maml.inner.steps if steps is None else steps
    check_steps(steps)
    if num_tasks < 1:
        raise ValueError(f"`num_tasks` must be positive. Received: {num_tasks}.")
    adopt(maml, episodes)
    maml._renew()
    name, function = named_metric(maml._outer_loss, metric)
    compiled = _compiled_curve(maml, steps, name, function, queries)
    # As a tensor, so that one trace serves all rates.
    rate = None if learning_rate is None else tf.constant(checked_rate(learning_rate))
    bar = keras.utils.Progbar(
        num_tasks,
        unit_name="task",
        verbose=0 if not verbose else 1,
        stateful_metrics=[name],
    )
    values, losses, counts, done = [], [], [], 0
    for batch in batches(episodes):
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        episode_checks.check_targets(query_y)
        episode_checks.check_dense(task, query_y)
        task, query_y = first_tasks(num_tasks - done, (task, query_y))
        episode_checks.check_batch(task, query_y)
        fit_checks.check_evaluated(
            maml.learner, maml.inner.loss, maml._outer_loss, task, query_y
        )
        value, loss = compiled(task, query_y, rate)
        values.append(value.numpy())
        losses.append(loss.numpy())
        counts += queries_there(task, query_y).sum(axis=1).tolist()
        done += len(values[-1])
        # The bar shows the mean of all tasks so far, as the result does. Keras's own
        # bar would show the mean of the last batch.
        so_far, loss = np.concatenate(values), np.concatenate(losses)
        shown = [(name, mean_after(loss, so_far))]
        rest = batches_left(episodes, len(values))
        bar.target = expected(done, rest, len(values[-1]), num_tasks)
        bar.update(done, shown)
        if done >= num_tasks:
            break
    if 0 < done < bar.target:  # The episodes ended early, so the bar ends here.
        bar.target = done
        bar.update(done, shown, finalize=True)
    if not done:
        raise ValueError("`episodes` must hold at least one batch. Received: none.")
    return Evaluation(
        metric=name,
        per_episode=so_far,
        diverged_tasks=diverged_tasks(loss, so_far),
        batch_norm=maml.learner.batch_norm.name,
        queries=queries_of(counts),
        higher_is_better=direction(name, higher_is_better),
        asked=queries,
        learning_rate=None if learning_rate is None else float(learning_rate),
    )


def _compiled_curve(
    maml: MAML, steps: int, name: str, function: Metric | None, queries: str
) -> Any:
    """`(task, query_y, rate) -> metric, loss`, both `[tasks, steps + 1]`."""
    cache = maml.__dict__.setdefault("_curves", {})
    key = (steps, function or name, maml._outer_loss, queries)
    predict = query_passes.get(queries)
    if key not in cache:
        learner = maml.learner

        def one(rate: Any, element: dict[str, Any]) -> tuple[Any, Any]:
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

        def curve(task: Any, query_y: Any, rate: Any) -> Any:
            # Losses and metrics are in the original unit.
            query_y = in_unit(maml, query_y)
            task_map = maml.task_map.fitted(learner, task)
            elements = {"task": task, "query_y": query_y}
            mapped = task_map(functools.partial(one, rate), elements)
            losses, outputs, known = mapped[1]
            if function is None:
                return losses, losses
            # The metric stays out of the task map: it may use operations that have no
            # form with a task axis.
            mean = functools.partial(mean_of_task, function)
            values = [
                tf.map_fn(mean, parts, fn_output_signature=tf.float32)
                for parts in zip(itertools.repeat(query_y), outputs, known)
            ]
            return tf.stack(values, axis=1), losses

        cache[key] = tf.function(curve, autograph=False, reduce_retracing=True)
    return cache[key]
