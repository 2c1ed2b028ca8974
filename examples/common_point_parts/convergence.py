"""Measures the steps, examples and seconds until a new task is learned."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import maml_keras as mk
from maml_keras.inner.loop import Point

# Sizes of the support set. Steps and seconds are measured with `SHOTS` examples.
SIZES = (20, 10, 5, 3, 2, 1)
SHOTS = 10
# Number of tasks whose seconds are measured, one by one.
TIMED = 20


class Convergence(NamedTuple):
    """Steps, examples and seconds of new tasks from one start; infinity if not learned.

    Attributes:
        steps: `[tasks]`, the first inner step on ten examples after which the query
            loss is below the threshold.
        examples: `[tasks]`, the smallest support set with which the task is learned.
        seconds: `[timed tasks]`, the time of those steps, one task at a time.
        losses: `[steps + 1, tasks]`, the query loss over inner steps on ten examples.
        threshold: a task is learned if its query loss is below this.
    """

    steps: Any
    examples: Any
    seconds: Any
    losses: Any
    threshold: float


def racer(maml: mk.MAML, *, threshold: float, limit: int) -> Any:
    """A function `(starts, tasks) -> Convergence` that measures each task.

    `starts` has a tensor `[tasks, ...]` for each weight; `tasks` is `(task, query_y)`
    with 20 support examples a task.

    Args:
        maml: gives the inner loop; its weights are not used.
        threshold: float, a task is learned if its query loss is below this.
        limit: int, largest number of inner steps to try.
    """
    race, adapt = _race(maml, threshold, limit), _adapt(maml)

    def measure(starts: list[Any], tasks: Any) -> Convergence:
        task, query_y = tasks
        examples = np.full(len(query_y), np.inf)
        left = np.ones(len(query_y), bool)  # Tasks learned with every larger set.
        for size in SIZES:
            support = task["support_x"][:, :size], task["support_y"][:, :size]
            elements = (starts, *support, task["query_x"], query_y)
            first, losses = race(elements, tf.constant(size == SHOTS))
            first = np.where(first < 0, np.inf, first)
            left &= np.isfinite(first)
            examples[left] = size
            if size == SHOTS:
                steps, curve = first, losses.numpy()
            if size <= SHOTS and not left.any():
                break
        seconds = _seconds(adapt, starts, task, steps[:TIMED])
        return Convergence(steps, examples, seconds, curve, threshold)

    return measure


def _race(maml: mk.MAML, threshold: float, limit: int) -> Any:
    """A function `(tasks, to_the_end) -> (first, losses)` for many tasks at once.

    `first` is the first step with a loss below the threshold, or -1; `losses` has the
    loss over steps. Each task starts from its own weights.
    """
    learner, inner = maml.learner, maml.inner

    def loss_and_step(element: Any) -> Any:
        weights, support_x, support_y, query_x, query_y = element
        output = learner.query(
            weights, learner.state(), support_x, query_x, training=False, step=0
        )
        point = Point(weights, learner.state(), (), [])
        after = inner.step(learner, point, support_x, support_y, step=0, training=False)
        return inner.loss(query_y, output.predictions), after.weights

    @tf.function(reduce_retracing=True)
    def race(elements: Any, to_the_end: Any) -> Any:
        weights, *task = elements
        tasks = tf.shape(task[-1])[0]
        first = tf.fill([tasks], -1)
        losses = tf.zeros([limit + 1, tasks])
        for k in tf.range(limit + 1):
            loss, weights = tf.vectorized_map(loss_and_step, (weights, *task))
            losses = tf.tensor_scatter_nd_update(losses, [[k]], loss[None])
            first = tf.where((first < 0) & (loss < threshold), k, first)
            if tf.reduce_all(first >= 0) and not to_the_end:
                break
        return first, losses

    return race


def _adapt(maml: mk.MAML) -> Any:
    """A compiled function for one task's weights after some steps."""

    @tf.function
    def adapt(weights: Any, x: Any, y: Any, steps: Any) -> Any:
        state = maml.learner.state()
        return maml.inner.adapt(maml.learner, weights, state, x, y, steps=steps).weights

    return adapt


def _seconds(adapt: Any, starts: list[Any], task: Any, steps: Any) -> Any:
    """The time of each task's own number of steps."""

    def timed(i: int, count: int) -> float:
        support = task["support_x"][i, :SHOTS], task["support_y"][i, :SHOTS]
        weights = [w[i] for w in starts]
        best = np.inf  # The best of five runs: other processes may disturb a run.
        for _ in range(5):
            started = time.perf_counter()
            adapt(weights, *support, tf.constant(count))[0].numpy()
            best = min(best, time.perf_counter() - started)
        return best

    timed(0, 1)  # The first call compiles.
    return np.array(
        [timed(i, int(n)) if n < np.inf else n for i, n in enumerate(steps)]
    )


def walker(maml: mk.MAML) -> Any:
    """A function `(start, task, steps) -> path` for the weights after each inner step.

    The path is a list of arrays `[steps + 1, ...]`, one for each weight.
    """
    learner, inner = maml.learner, maml.inner

    @tf.function
    def walk(start: Any, x: Any, y: Any, steps: Any) -> Any:
        point = Point(start, learner.state(), (), [])
        visited = [tf.TensorArray(w.dtype, steps + 1).write(0, w) for w in start]
        for k in tf.range(steps):
            point = inner.step(learner, point, x, y, step=k, training=False)
            visited = [a.write(k + 1, w) for a, w in zip(visited, point.weights)]
        return [a.stack() for a in visited]

    def way(start: Any, task: Any, steps: int) -> list[Any]:
        support = task["support_x"][:SHOTS], task["support_y"][:SHOTS]
        start = [tf.convert_to_tensor(w) for w in start]
        return [w.numpy() for w in walk(start, *support, tf.constant(steps))]

    return way


def judge(maml: mk.MAML) -> Any:
    """Two functions of n sets of weights, an array `[n, ...]` for each weight.

    `predictions(weights, x)` has the shape `[n, examples, ...]`, and
    `losses(weights, x, y)` has the shape `[n]`.
    """

    @tf.function(reduce_retracing=True)
    def predict(weights: Any, x: Any) -> Any:
        def one(weights: Any) -> Any:
            state = maml.learner.state()
            return maml.learner(weights, state, x, training=False).predictions

        return tf.vectorized_map(one, weights)

    @tf.function(reduce_retracing=True)
    def compare(predictions: Any, y: Any) -> Any:
        return tf.vectorized_map(lambda p: maml.inner.loss(y, p), predictions)

    def predictions(weights: list[Any], x: Any) -> Any:
        weights = [tf.convert_to_tensor(w, tf.float32) for w in weights]
        return predict(weights, tf.convert_to_tensor(x)).numpy()

    def losses(weights: list[Any], x: Any, y: Any) -> Any:
        found = tf.convert_to_tensor(predictions(weights, x))
        return compare(found, tf.convert_to_tensor(y)).numpy()

    return predictions, losses


def from_one(model: keras.Model, tasks: int) -> list[Any]:
    """The model's weights as the start of every task."""
    return [tf.stack([v.value] * tasks) for v in model.trainable_variables]


def from_many(models: Sequence[keras.Model]) -> list[Any]:
    """The weights of a different model as the start of each task."""
    return [tf.stack(w) for w in zip(*(m.get_weights() for m in models))]


def median(values: Any) -> tuple[float, float, float]:
    """The median and its 95% interval, from the order of the values alone.

    The ranks `n/2 ± 0.98 sqrt(n)` enclose the median with 95% probability, whatever
    the distribution; infinity is a value like any other.
    """
    ordered = np.sort(values)
    n, reach = len(ordered), 0.98 * np.sqrt(len(ordered))
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(np.ceil(n / 2 + reach)))
    # For an even number the lower one is taken: a mean with infinity has no use.
    return ordered[(n - 1) // 2], ordered[low], ordered[high]


def table(results: dict[str, Convergence], *, limit: int) -> str:
    """A row for each start: median and interval of steps, examples and time."""
    lines = [
        f"| start | steps, with {SHOTS} examples | smallest support set "
        "| milliseconds | tasks learned |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        cells = [
            cell(result.steps, f"> {limit:,}"),
            cell(result.examples, f"> {SIZES[0]}"),
            cell(1000 * result.seconds, "never"),
            f"{np.isfinite(result.steps).mean():.0%}",
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def cell(values: Any, never: str) -> str:
    """The median with its interval in brackets; `never` replaces infinite values."""
    middle, low, high = (
        f"{value:,.3g}" if np.isfinite(value) else never for value in median(values)
    )
    return never if low == never else f"{middle} [{low}, {high}]"
