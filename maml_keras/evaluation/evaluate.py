"""Measures how well a learned initialisation adapts to new tasks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.evaluation import query_passes
from maml_keras.evaluation.metrics import (
    Metric,
    Named,
    direction,
    mean_of_task,
    named_metric,
)
from maml_keras.inner.loop import check_steps
from maml_keras.learner import episode_checks, masks
from maml_keras.outer import fit_checks
from maml_keras.outer.maml import MAML

# A task diverged if its query loss exceeds the mean loss before adaptation by this
# factor. A task that merely fails stays near that mean; a divergence passes the limit
# in one step.
DIVERGED_RATIO = 100.0


def half_width(values: Any) -> float:
    """Half the 95% confidence interval of a mean over tasks.

    `1.96 * std / sqrt(n)`, with the standard deviation of a sample (n - 1).

    Args:
        values: floats `[tasks]`, at least two.

    >>> round(half_width([1.0, 2.0, 3.0, 4.0]), 4)
    1.2652
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return float("nan")
    return float(1.96 * values.std(ddof=1) / np.sqrt(values.size))


@dataclass(frozen=True)
class Evaluation:
    """The metric on new tasks, after 0, 1, .. K adaptation steps.

    A task counts as diverged at a step if its query loss is not finite there, or is
    above 100 times the mean loss of all tasks before adaptation, if that mean is
    positive. Means leave diverged tasks out, and their number is always given. Medians
    are over all tasks.

    Attributes:
        metric: str, `"accuracy"`, `"loss"` or the function's name.
        per_episode: `[tasks, K + 1]`, the metric of each task at each step.
        diverged_tasks: bool `[tasks, K + 1]`.
        batch_norm: str, the policy.
        queries: int, query examples of a task; `(fewest, most)` if tasks differ.
        higher_is_better: bool; None if it is unknown. Then there is no median at a
            step where a task diverged.
        asked: str, `"together"` if one pass predicted all queries of a task,
            `"alone"` if each query had its own pass.
    """

    metric: str
    per_episode: Any
    diverged_tasks: Any
    batch_norm: str
    queries: int | tuple[int, int]
    higher_is_better: bool | None
    asked: str = "together"

    @property
    def steps(self) -> int:
        """K, the number of adaptation steps."""
        return int(self.per_episode.shape[1]) - 1

    @property
    def num_tasks(self) -> int:
        """How many tasks were evaluated, diverged ones included."""
        return int(self.per_episode.shape[0])

    @property
    def curve(self) -> Any:
        """Mean at each step `0..K`, over the tasks that did not diverge there."""
        return np.array([_mean(self._kept(k)) for k in range(self.steps + 1)])

    @property
    def half_widths(self) -> Any:
        """Half-width of the mean's 95% confidence interval at each step."""
        return np.array([half_width(self._kept(k)) for k in range(self.steps + 1)])

    @property
    def medians(self) -> Any:
        """Median at each step over all tasks; a diverged task counts as the worst."""
        worst = {True: -np.inf, False: np.inf, None: np.nan}[self.higher_is_better]
        return np.median(np.where(self.diverged_tasks, worst, self.per_episode), axis=0)

    @property
    def diverged(self) -> Any:
        """Number of diverged tasks at each step."""
        return self.diverged_tasks.sum(axis=0)

    @property
    def queries_text(self) -> str:
        """How many queries a task had and how they were asked, in words."""
        how = {"alone": "each alone"}.get(self.asked, self.asked)
        if isinstance(self.queries, tuple):
            return "{} to {} queries a task, {}".format(*self.queries, how)
        if self.queries == 1:
            return "1 query a task"
        return f"{self.queries} queries a task, {how}"

    @property
    def caption(self) -> str:
        """The conditions of every figure, for the info button of its plot."""
        return f"{self.queries_text}; batch norm: {self.batch_norm}"

    @property
    def mean(self) -> float:
        """Mean after the last step."""
        return float(self.curve[-1])

    @property
    def half_width(self) -> float:
        """Half-width after the last step."""
        return float(self.half_widths[-1])

    def until(self, steps: int) -> Evaluation:
        """The same evaluation with the steps `0..steps` alone."""
        return replace(
            self,
            per_episode=self.per_episode[:, : steps + 1],
            diverged_tasks=self.diverged_tasks[:, : steps + 1],
        )

    def summary(self) -> dict[str, Any]:
        """The figures and their conditions, as plain data for a card."""
        return {
            "metric": self.metric,
            "tasks": self.num_tasks,
            "queries_per_task": (
                list(self.queries) if isinstance(self.queries, tuple) else self.queries
            ),
            "queries": self.asked,
            "batch_norm": self.batch_norm,
            "steps": list(range(self.steps + 1)),
            "mean": _plain(self.curve),
            "half_width_95": _plain(self.half_widths),
            "median": _plain(self.medians),
            "diverged_tasks": [int(n) for n in self.diverged],
        }

    def table(self) -> str:
        """A line for each step: mean, half-width, median, diverged tasks, policy."""
        head = (
            f"{'step':>4}  {self.metric:>10}  {'95% CI':>9}  {'median':>10}  diverged"
            "  batch norm"
        )
        lines = [
            f"{k:>4}  {self._form(m):>10}  ±{self._form(h):>8}  "
            f"{self._form(d):>10}  {n:<8}  {self.batch_norm}"
            for k, (m, h, d, n) in enumerate(
                zip(self.curve, self.half_widths, self.medians, self.diverged)
            )
        ]
        return "\n".join([head, *lines])

    def __str__(self) -> str:
        return (
            f"{self.metric} {self._form(self.mean)} ± {self._form(self.half_width)} "
            f"(95% CI over {self.num_tasks} tasks, {self.queries_text}, "
            f"after {self.steps} steps; median {self._form(self.medians[-1])}; "
            f"{self.diverged[-1]} of {self.num_tasks} tasks diverged and are left out "
            f"of the mean; batch norm: {self.batch_norm})"
        )

    def _kept(self, step: int) -> Any:
        return self.per_episode[~self.diverged_tasks[:, step], step]

    def _form(self, value: float) -> str:
        if np.isinf(value):  # The median is infinite if half of the tasks diverged.
            return "diverged"
        return f"{value:.2%}" if self.metric == "accuracy" else f"{value:.4g}"


def evaluate_episodes(
    maml: MAML,
    episodes: Any,
    *,
    steps: int | None = None,
    num_tasks: int = 600,
    metric: Named = None,
    higher_is_better: bool | None = None,
    queries: str = "together",
    verbose: str | int = "auto",
) -> Evaluation:
    """The metric on `num_tasks` tasks at every adaptation step from 0 to `steps`.

    `m_i(k) = mean(metric(query_i; phi_k))`, averaged over tasks i. The model and its
    moving statistics do not change.

    Args:
        maml: the model.
        episodes: batches `(task, query_y)`: a `tf.data.Dataset` or any iterable.
            All queries count equally: sample weights, the third entry of a batch, are
            ignored.
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
    maml._renew()
    name, function = named_metric(maml._outer_loss, metric)
    compiled = _compiled_curve(maml, steps, name, function, queries)
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
        value, loss = compiled(task, query_y)
        values.append(value.numpy())
        losses.append(loss.numpy())
        counts.append(int(tf.nest.flatten(query_y)[0].shape[1]))
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
    )


def diverged_tasks(loss: Any, values: Any) -> Any:
    """Which tasks diverged, at each step.

    Args:
        loss: `[tasks, K + 1]`, the query loss.
        values: `[tasks, K + 1]`, the metric.

    Returns:
        Bool `[tasks, K + 1]`: True if the loss or the metric is not finite, or the loss
        is above 100 times the mean loss at step 0. The ratio only counts if that mean
        is positive: a ratio to a negative loss means nothing.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        start = _mean(loss[:, 0][np.isfinite(loss[:, 0])])
        limit = DIVERGED_RATIO * start if start > 0.0 else np.inf
        return ~(np.isfinite(loss) & np.isfinite(values)) | (loss > limit)


def queries_of(counts: list[int]) -> int | tuple[int, int]:
    """`Evaluation.queries` for batches with these numbers of queries a task.

    >>> queries_of([15, 15]), queries_of([15, 1, 5])
    (15, (1, 15))
    """
    fewest, most = min(counts), max(counts)
    return fewest if fewest == most else (fewest, most)


def batches(episodes: Any) -> Any:
    """Checks that `episodes` is not a single batch; returns it."""
    if isinstance(episodes, tuple) and episodes and isinstance(episodes[0], dict):
        raise ValueError(
            "`episodes` must be a dataset or an iterable of batches (task, query_y). "
            "Received: a single batch. Put it into a list: `[batch]`."
        )
    return episodes


def batches_left(episodes: Any, seen: int) -> int | None:
    """The number of batches after those seen; None if it is unknown or infinite.

    >>> batches_left([None, None, None], 1)
    2
    """
    if isinstance(episodes, tf.data.Dataset):
        count = int(episodes.cardinality())
    else:
        count = len(episodes) if hasattr(episodes, "__len__") else -1
    return None if count < 0 else max(count - seen, 0)


def expected(done: int, rest: int | None, batch_size: int, num_tasks: int) -> int:
    """The number of tasks that a bar should count to.

    Args:
        done: int, tasks so far.
        rest: int, batches that are left, or None if that is unknown.
        batch_size: int, tasks of the last batch.
        num_tasks: int, wanted number of tasks.

    >>> expected(4, 2, 4, 600), expected(4, 2, 4, 10), expected(4, None, 4, 600)
    (12, 10, 600)
    """
    return num_tasks if rest is None else min(num_tasks, done + rest * batch_size)


def mean_after(loss: Any, values: Any) -> float:
    """Mean after the last step over the tasks that did not diverge, for a bar."""
    return _mean(values[~diverged_tasks(loss, values)[:, -1], -1])


def check_repeatable(episodes: Any) -> None:
    """Refuses episodes that can be drawn only once, such as a generator.

    Raises:
        ValueError: if `episodes` is an iterator.
    """
    if isinstance(episodes, Iterator):
        raise ValueError(
            "`episodes` must be a dataset or a list of batches, which give the same "
            f"tasks each time. Received: {type(episodes).__name__}, which gives each "
            "task only once. Keep some: `list(itertools.islice(episodes, 5))`."
        )


def first_tasks(count: int, batch: Any) -> Any:
    """The first tasks of a nest of arrays `[tasks, ...]`, as tensors."""
    return tf.nest.map_structure(lambda a: tf.convert_to_tensor(a)[:count], batch)


def _compiled_curve(
    maml: MAML, steps: int, name: str, function: Metric | None, queries: str
) -> Any:
    """`(task, query_y) -> metric, loss`, each `[tasks, steps + 1]`, traced once."""
    cache = maml.__dict__.setdefault("_curves", {})
    key = (steps, function or name, maml._outer_loss, queries)
    predict = query_passes.get(queries)
    if key not in cache:
        learner = maml.learner

        def one(element: dict[str, Any]) -> tuple[Any, Any]:
            task, query_y = element["task"], element["query_y"]
            points = maml.inner.trajectory(
                learner,
                learner.weights(),
                learner.state(),
                task["support_x"],
                task["support_y"],
                steps=steps,
            )
            outputs = [
                predict(
                    query_passes.answers(
                        learner, p.weights, p.state, task["support_x"], step=k
                    ),
                    task["query_x"],
                )
                for k, p in enumerate(points)
            ]
            losses = [maml._outer_loss(query_y, output) for output in outputs]
            known = [masks.taken(output) for output in outputs]
            return (), (tf.stack(losses), outputs, known)

        def curve(task: Any, query_y: Any) -> Any:
            task_map = maml.task_map.fitted(learner, task)
            mapped = task_map(one, {"task": task, "query_y": query_y})
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


def _mean(values: Any) -> float:
    return float(values.mean()) if values.size else float("nan")


def _plain(values: Any) -> list[float | None]:
    # JSON has no infinity and no NaN, so None stands for a figure that does not exist.
    return [float(v) if np.isfinite(v) else None for v in values]
