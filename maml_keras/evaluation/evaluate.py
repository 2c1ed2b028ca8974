"""Measures how well a learned initialisation adapts to new tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.evaluation import curves
from maml_keras.evaluation.batches import batches, batches_left, expected, first_tasks
from maml_keras.evaluation.calibration import Calibration
from maml_keras.evaluation.metrics import Named, direction, named_metric
from maml_keras.evaluation.result import (
    Evaluation,
    diverged_tasks,
    mean_after,
    queries_of,
)
from maml_keras.inner.loop import check_steps
from maml_keras.inner.rules import checked_rate
from maml_keras.learner import episode_checks
from maml_keras.learner.weights import queries_there
from maml_keras.outer import fit_checks
from maml_keras.outer.maml import MAML
from maml_keras.outer.preparations import adopt


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
        An `Evaluation`; its `str()` states the figure and all its conditions. If the
        outer loss is a cross-entropy, `calibration` has the calibration error beside
        it. For regression there is none: a number alone states no confidence.

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
    (result,) = evaluations(
        [maml],
        episodes,
        steps=steps,
        num_tasks=num_tasks,
        metric=metric,
        higher_is_better=higher_is_better,
        queries=queries,
        learning_rate=learning_rate,
        verbose=verbose,
    )
    return result


def evaluations(
    mamls: Sequence[MAML],
    episodes: Any,
    *,
    steps: int,
    num_tasks: int,
    metric: Named,
    higher_is_better: bool | None,
    queries: str,
    learning_rate: float | None,
    verbose: str | int,
) -> list[Evaluation]:
    """Evaluates models on the same tasks, and for several their mean at last.

    Args:
        mamls: the models, with the same outer loss.
        episodes: as for `evaluate_episodes`, like the other arguments.
        steps: int, adaptation steps.
        num_tasks: int, how many tasks to take.
        metric: the metric.
        higher_is_better: bool, or None.
        queries: `"together"` or `"alone"`.
        learning_rate: float, or None.
        verbose: 0 for silence.
    """
    check_steps(steps)
    if num_tasks < 1:
        raise ValueError(f"`num_tasks` must be positive. Received: {num_tasks}.")
    for maml in mamls:
        adopt(maml, episodes)
        maml._renew()
    name, function = named_metric(mamls[0]._outer_loss, metric)
    compiled = curves.compiled(mamls, steps, name, function, queries)
    # As a tensor, so that one trace serves all rates.
    rate = None if learning_rate is None else tf.constant(checked_rate(learning_rate))
    bar = keras.utils.Progbar(
        num_tasks,
        unit_name="task",
        verbose=0 if not verbose else 1,
        stateful_metrics=[name],
    )
    found: list[Any] = []
    counts: list[int] = []
    done = 0
    for batch in batches(episodes):
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        episode_checks.check_targets(query_y)
        episode_checks.check_dense(task, query_y)
        task, query_y = first_tasks(num_tasks - done, (task, query_y))
        episode_checks.check_batch(task, query_y)
        for maml in mamls:
            fit_checks.check_evaluated(
                maml.learner, maml.inner.loss, maml._outer_loss, task, query_y
            )
        found.append(tf.nest.map_structure(np.asarray, compiled(task, query_y, rate)))
        counts += queries_there(task, query_y).sum(axis=1).tolist()
        done += len(found[-1][-1][0])
        # The bar shows the mean of all tasks so far, as the result does. Keras's own
        # bar would show the mean of the last batch.
        so_far, loss, *_ = _joined(found)[-1]
        shown = [(name, mean_after(loss, so_far))]
        rest = batches_left(episodes, len(found))
        bar.target = expected(done, rest, len(found[-1][-1][0]), num_tasks)
        bar.update(done, shown)
        if done >= num_tasks:
            break
    if 0 < done < bar.target:  # The episodes ended early, so the bar ends here.
        bar.target = done
        bar.update(done, shown, finalize=True)
    if not done:
        raise ValueError("`episodes` must hold at least one batch. Received: none.")
    policies = [maml.learner.batch_norm.name for maml in mamls]
    if len(mamls) > 1:
        policies.append(", ".join(dict.fromkeys(policies)))
    return [
        Evaluation(
            metric=name,
            per_episode=values,
            diverged_tasks=(lost := diverged_tasks(loss, values)),
            batch_norm=policy,
            queries=queries_of(counts),
            higher_is_better=direction(name, higher_is_better),
            asked=queries,
            learning_rate=None if learning_rate is None else float(learning_rate),
            calibration=Calibration(statistics[0], lost) if statistics else None,
        )
        for (values, loss, *statistics), policy in zip(_joined(found), policies)
    ]


def _joined(found: list[Any]) -> list[list[Any]]:
    """The arrays of all batches, joined for each model."""
    return [
        [np.concatenate(parts) for parts in zip(*batches)] for batches in zip(*found)
    ]
