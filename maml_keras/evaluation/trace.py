"""Traces the inner loop on fixed tasks: losses, metrics and norms at each step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.evaluation.batches import batches, batches_left, expected, first_tasks
from maml_keras.evaluation.metrics import (
    Metric,
    Named,
    class_numbers,
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
from maml_keras.evaluation.trace_recording import along, recorded
from maml_keras.execution.task_maps import parallel
from maml_keras.inner.loop import Point, check_steps
from maml_keras.learner import episode_checks, masks
from maml_keras.learner.learner import Learner
from maml_keras.learner.weights import SUPPORT, passes_of, queries_there
from maml_keras.outer import fit_checks
from maml_keras.outer.maml import MAML
from maml_keras.outer.preparations import adopt, in_unit

# Number of tasks that are kept completely, for pictures.
EXAMPLES = 4
# All maps give the same numbers. This one compiles five times as fast as a map with a
# task axis. A run has too few looks for faster steps to make up for compilation.
TASK_MAP = parallel()


@dataclass(frozen=True)
class InnerTrace:
    """The inner loop on some tasks, step by step; step 0 is before adaptation.

    Attributes:
        metric: str, `"accuracy"`, `"loss"` or the function's name.
        query_loss: `[tasks, K + 1]`, the outer loss of the query set.
        support_loss: `[tasks, K + 1]`, the same loss of the support set.
        query_metric: `[tasks, K + 1]`, the metric of the query set.
        support_metric: `[tasks, K + 1]`, the metric of the support set.
        gradient_norms: `[tasks, K, layers]`, norms of the inner gradients, before
            clipping.
        update_norms: `[tasks, K, layers]`, norms of the weights' changes.
        layers: paths of the layers that adapt.
        chance: the accuracy of a guess: the mean over tasks of the most frequent
            class's share of the query set; None if targets are not classes.
        queries: int, query examples of a task; `(fewest, most)` if tasks differ.
        batch_norm: str, the policy.
        examples: the first few tasks: `support_x`, `support_y`, `query_x`, `query_y`,
            and `predictions` `[tasks, K + 1, query examples, ...]`, targets and
            predictions in the original unit.
        higher_is_better: as in `Evaluation`, for `query_metric`.

    >>> curve = np.array([[2.0, 0.5], [1.0, 0.3]])  # Two tasks and one step.
    >>> norms = np.ones([2, 1, 1])
    >>> trace = InnerTrace(
    ...     "loss", curve, curve, curve, curve, norms, norms, ("head",), None, 5,
    ...     "transductive", {}, False)
    >>> trace.steps, trace.query("loss").mean
    (1, 0.4)
    """

    metric: str
    query_loss: Any
    support_loss: Any
    query_metric: Any
    support_metric: Any
    gradient_norms: Any
    update_norms: Any
    layers: tuple[str, ...]
    chance: float | None
    queries: int | tuple[int, int]
    batch_norm: str
    examples: dict[str, Any]
    higher_is_better: bool | None = None

    @property
    def steps(self) -> int:
        """K, the number of adaptation steps."""
        return int(self.query_loss.shape[1]) - 1

    @property
    def num_tasks(self) -> int:
        """How many tasks there are, diverged ones included."""
        return int(self.query_loss.shape[0])

    @property
    def diverged(self) -> Any:
        """Bool `[tasks, K + 1]`, as in `Evaluation`."""
        return diverged_tasks(self.query_loss, self.query_metric)

    def query(self, metric: str | None = None) -> Evaluation:
        """The `Evaluation` of the query sets; of their loss with `metric="loss"`."""
        values = self.query_loss if metric == "loss" else self.query_metric
        return self._evaluation(metric or self.metric, values)

    def support(self, metric: str | None = None) -> Evaluation:
        """The `Evaluation` of the support sets, without tasks that diverged there."""
        values = self.support_loss if metric == "loss" else self.support_metric
        return self._evaluation(metric or self.metric, values)

    def _evaluation(self, metric: str, values: Any) -> Evaluation:
        return Evaluation(
            metric=metric,
            per_episode=values,
            diverged_tasks=self.diverged | ~np.isfinite(values),
            batch_norm=self.batch_norm,
            queries=self.queries,
            higher_is_better=direction(
                metric, None if metric == "loss" else self.higher_is_better
            ),
        )


def trace_inner_loop(
    maml: MAML,
    episodes: Any,
    *,
    steps: int | None = None,
    num_tasks: int = 100,
    metric: Named = None,
    higher_is_better: bool | None = None,
    verbose: str | int = "auto",
) -> InnerTrace:
    """Adapts to each task and records the effect of every inner step.

    `loss_i(k) = L(query_i; phi_k)`, `|grad L(support_i; phi_k)|` and
    `|phi_{k+1} - phi_k|` by layer. The model does not change.

    Args:
        maml: the model.
        episodes: batches `(task, query_y)`.
        steps: int, K; None for the number in training.
        num_tasks: int, how many tasks to take; fewer if `episodes` ends before.
        metric: as in `evaluate_episodes`.
        higher_is_better: as in `evaluate_episodes`.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        An `InnerTrace`.

    Raises:
        ValueError: if there are no episodes, or an argument does not fit.

    >>> import maml_keras as mk
    >>> head = keras.layers.Dense(1, name="head")
    >>> model = keras.Sequential([keras.Input([1]), head], name="line")
    >>> maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.1)))
    >>> x = np.ones([4, 5, 1], "float32")
    >>> batch = {"support_x": x, "support_y": 2 * x, "query_x": x}, 2 * x
    >>> trace = trace_inner_loop(maml, [batch], steps=3, verbose=0)
    >>> trace.query_loss.shape, trace.gradient_norms.shape, trace.layers
    ((4, 4), (4, 3, 1), ('line/head',))
    """
    steps = maml.inner.steps if steps is None else steps
    check_steps(steps)
    if num_tasks < 1:
        raise ValueError(f"`num_tasks` must be positive. Received: {num_tasks}.")
    adopt(maml, episodes)
    maml._renew()
    name, function = named_metric(maml._outer_loss, metric)
    compiled, layers = _compiled(maml, steps, name, function)
    parts: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    shares: list[Any] = []
    counts: list[int] = []
    done = 0
    bar = Bar(num_tasks, unit="task", verbose=verbose)
    for batch in batches(episodes):
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        episode_checks.check_targets(query_y)
        episode_checks.check_dense(task, query_y)
        task, query_y = first_tasks(num_tasks - done, (task, query_y))
        episode_checks.check_batch(task, query_y)
        fit_checks.check_evaluated(
            maml.learner, maml.inner.loss, maml._outer_loss, task, query_y
        )
        numbers, predictions = compiled(task, query_y)
        parts.append({key: value.numpy() for key, value in numbers.items()})
        there = queries_there(task, query_y)
        counts += there.sum(axis=1).tolist()
        if done < EXAMPLES:
            kept = {
                **task,
                "support_y": in_unit(maml, task["support_y"]),
                "query_y": in_unit(maml, query_y),
                "predictions": predictions,
            }
            drawn = first_tasks(EXAMPLES - done, kept)
            # Tasks of another size are left out, because their arrays do not stack.
            if not examples or _sizes(drawn) == _sizes(examples[0]):
                examples.append(drawn)
        if maml._outer_loss.is_sparse_categorical or maml._outer_loss.is_categorical:
            labels = (y[rows] for y, rows in zip(query_y.numpy(), there))
            classes = (class_numbers(maml._outer_loss, y) for y in labels)
            shares += map(_largest_share, classes)
        size = len(parts[-1]["query_loss"])
        done += size
        bar.expect(expected(done, batches_left(episodes, len(parts)), size, num_tasks))
        loss, values = (
            np.concatenate([part[key] for part in parts])
            for key in ("query_loss", "query_metric")
        )
        bar.update(done, {name: mean_after(loss, values)})
        if done >= num_tasks:
            break
    if not done:
        raise ValueError("`episodes` must hold at least one batch. Received: none.")
    bar.finish(done)
    return InnerTrace(
        metric=name,
        layers=layers,
        chance=float(np.mean(shares)) if shares else None,
        queries=queries_of(counts),
        batch_norm=maml.learner.batch_norm.name,
        higher_is_better=direction(name, higher_is_better),
        examples=tf.nest.map_structure(_joined, *examples),
        **{key: np.concatenate([p[key] for p in parts]) for key in parts[0]},
    )


def predictions_along(maml: MAML, task: dict[str, Any], *, steps: int) -> Any:
    """Predictions on query inputs before adaptation and after each inner step.

    Args:
        maml: the model.
        task: `support_x`, `support_y`, `query_x`, arrays `[tasks, examples, ...]`.
        steps: int, K.

    Returns:
        Array `[tasks, K + 1, query examples, ...]`.
    """
    maml._renew()
    cache = maml.__dict__.setdefault("_predictions_along", {})
    if steps not in cache:
        loop, learner = recorded(maml), maml.learner

        def one(element: Any) -> tuple[Any, Any]:
            def answer(point: Point, k: Any) -> Any:
                return in_unit(maml, _answer(learner, point, element, k))

            return (), along(loop, learner, element, steps, answer)[0]

        def all_tasks(task: Any) -> Any:
            return TASK_MAP(one, task)[1]

        cache[steps] = tf.function(all_tasks, autograph=False, reduce_retracing=True)
    inputs = tf.nest.map_structure(tf.convert_to_tensor, task)
    return tf.nest.map_structure(lambda t: t.numpy(), cache[steps](inputs))


def _answer(learner: Learner, point: Point, task: Any, k: Any) -> Any:
    """Predictions on the query set."""
    return learner.query(
        point.weights,
        point.state,
        task["support_x"],
        task["query_x"],
        training=False,
        step=k,
        **passes_of(task),
    ).predictions


def _compiled(
    maml: MAML, steps: int, name: str, function: Metric | None
) -> tuple[Any, tuple[str, ...]]:
    """`(task, query_y) -> numbers, predictions` at every step, traced once."""
    cache = maml.__dict__.setdefault("_inner_traces", {})
    key = (steps, function or name, maml._outer_loss)
    if key in cache:
        return cache[key]  # type: ignore[no-any-return]
    learner, loop = maml.learner, recorded(maml)

    def one(element: dict[str, Any]) -> tuple[Any, Any]:
        task, query_y = element["task"], element["query_y"]
        support_y = in_unit(maml, task["support_y"])

        def look(point: Point, k: Any) -> dict[str, Any]:
            support = learner(
                point.weights,
                point.state,
                task["support_x"],
                training=False,
                step=k,
                weight=task.get(SUPPORT),
            ).predictions
            support = in_unit(maml, support)
            query = in_unit(maml, _answer(learner, point, task, k))
            return {
                "support": support,
                "query": query,
                "support_masks": masks.taken(support),
                "query_masks": masks.taken(query),
                "support_loss": maml._outer_loss(support_y, support),
                "query_loss": maml._outer_loss(query_y, query),
            }

        seen, norms = along(loop, learner, task, steps, look)
        return (), {
            **seen,
            "gradient_norms": norms.gradient,
            "update_norms": norms.update,
        }

    def trace(task: Any, query_y: Any) -> Any:
        # Losses and metrics are in the original unit.
        query_y = in_unit(maml, query_y)
        _, numbers = TASK_MAP(one, {"task": task, "query_y": query_y})
        outputs, known = (
            {part: numbers.pop(f"{part}{ending}") for part in ("support", "query")}
            for ending in ("", "_masks")
        )
        for part, y in (
            ("support", in_unit(maml, task["support_y"])),
            ("query", query_y),
        ):
            if function is None:
                numbers[f"{part}_metric"] = numbers[f"{part}_loss"]
                continue
            # The metric stays out of the task map: it may use operations that have no
            # form with a task axis.
            numbers[f"{part}_metric"] = tf.map_fn(
                functools.partial(_means_of_task, function),
                (y, outputs[part], known[part]),
                fn_output_signature=tf.float32,
            )
        return numbers, tf.nest.map_structure(lambda t: t[:EXAMPLES], outputs["query"])

    compiled = tf.function(trace, autograph=False, reduce_retracing=True)
    cache[key] = compiled, loop.rule.layers
    return cache[key]  # type: ignore[no-any-return]


def _means_of_task(function: Metric, parts: Any) -> Any:
    """A metric's mean at each step.

    Args:
        function: the metric.
        parts: a task's `(y, predictions [K + 1, ...], masks [K + 1, ...])`.
    """
    y, outputs, known = parts
    return tf.map_fn(
        lambda step: mean_of_task(function, (y, *step)),
        (outputs, known),
        fn_output_signature=tf.float32,
    )


def _largest_share(labels: Any) -> float:
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / labels.size) if labels.size else 1.0


def _sizes(tasks: Any) -> list[Any]:
    """The shape of one task in each array."""
    return [leaf.shape[1:] for leaf in tf.nest.flatten(tasks)]


def _joined(*batches: Any) -> Any:
    return np.concatenate([batch.numpy() for batch in batches])
