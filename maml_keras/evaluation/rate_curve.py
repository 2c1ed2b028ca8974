"""The metric of one initialisation at many inner learning rates."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.evaluation import plots
from maml_keras.evaluation.batches import batches
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.metrics import Named
from maml_keras.evaluation.result import Evaluation
from maml_keras.outer.maml import MAML
from maml_keras.outer.preparations import adopt

NUM_RATES = 20
# How far the default rates lie on both sides of the rule's own, as a factor.
REACH = 100.0


@dataclass(frozen=True)
class RateCurve:
    """Evaluations of one initialisation on the same tasks, one for each inner rate.

    Attributes:
        results: an `Evaluation` by rate, rates rising.
        own_rate: float, the rule's own rate; None if its rates are learned.

    >>> tasks = np.zeros([4, 2], bool)
    >>> def at(loss):
    ...     values = np.full([4, 2], loss)
    ...     return Evaluation("loss", values, tasks, "running", 5, False)
    >>> RateCurve({0.01: at(3.0), 0.1: at(1.0), 1.0: at(9.0)}, 0.01).best()
    0.1
    """

    results: dict[float, Evaluation]
    own_rate: float | None

    @property
    def rates(self) -> list[float]:
        """The inner rates, rising."""
        return list(self.results)

    @property
    def means(self) -> Any:
        """The mean metric `[rates, K + 1]` after each step, without diverged tasks."""
        return np.array([result.curve for result in self.results.values()])

    @property
    def diverged(self) -> Any:
        """The number of diverged tasks `[rates, K + 1]`."""
        return np.array([result.diverged for result in self.results.values()])

    def best(self, steps: int | None = None) -> float:
        """The rate with the best median over tasks, in which diverged tasks count.

        Args:
            steps: int, inner steps after which the metric counts; None for the last.

        Raises:
            ValueError: if the metric does not tell whether higher is better.
        """
        first = next(iter(self.results.values()))
        if first.higher_is_better is None:
            raise ValueError(
                f"`best` needs to know whether a higher {first.metric} is better. "
                "Pass `higher_is_better` to `rate_curve`."
            )
        at = first.steps if steps is None else steps
        medians = np.array([r.medians[at] for r in self.results.values()])
        score = medians if first.higher_is_better else -medians
        return self.rates[int(np.argmax(np.where(np.isnan(score), -np.inf, score)))]

    def table(self) -> str:
        """A line for each rate: the mean after each step, and diverged tasks."""
        first = next(iter(self.results.values()))
        head = "  ".join(f"{f'step {k}':>8}" for k in range(first.steps + 1))
        lines = [f"{'rate':>9}  {head}  diverged"]
        for rate, result in self.results.items():
            means = "  ".join(f"{mean:>8.4g}" for mean in result.curve)
            lines.append(f"{rate:>9.3g}  {means}  {result.diverged[-1]}")
        return "\n".join(lines)

    def plot(self, path: str | pathlib.Path) -> pathlib.Path:
        """Draws the metric over the rate, a line for each step, and diverged tasks.

        Args:
            path: the PNG to write.

        Returns:
            The path.
        """
        return plots.plot_rates(self.results, path, own_rate=self.own_rate)


def rate_curve(
    maml: MAML,
    episodes: Any,
    *,
    rates: Sequence[float] | None = None,
    steps: int | None = None,
    num_tasks: int = 100,
    metric: Named = None,
    higher_is_better: bool | None = None,
    queries: str = "together",
    verbose: str | int = "auto",
) -> RateCurve:
    """How the inner rate changes adaptation, without any training.

    `m(rate, k) = mean_i metric(query_i; phi_k(rate))`

    All rates adapt the same initialisation to the same tasks, in one compiled function.
    Look before training, for a rate that does something and does not diverge, and
    after training, for how far the chosen rate lies from the edge. A network that was
    trained with one rate prefers rates near it, so the best rate for a new training
    may be another one. Choose on validation tasks.

    Args:
        maml: the model; it does not change. Rules with learned rates get one rate for
            all weights, too.
        episodes: batches `(task, query_y)`, as for `evaluate_episodes`.
        rates: floats above 0; None for twenty, from a hundredth of the rule's own rate
            to a hundred times that rate, or from 1e-4 to 1 if the rates are learned.
        steps: int, K; None for the number in training.
        num_tasks: int, how many tasks each rate is tried on.
        metric: as for `evaluate_episodes`.
        higher_is_better: as for `evaluate_episodes`.
        queries: `"together"` or `"alone"`, as for `evaluate_episodes`.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `RateCurve`.

    Raises:
        ValueError: if `rates` is empty, repeats a rate, or holds one that is not a
            finite number above 0.

    >>> import keras
    >>> import maml_keras as mk
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.1)))
    >>> x = np.ones([4, 5, 1], "float32")
    >>> batch = {"support_x": x, "support_y": 9 * x, "query_x": x}, 9 * x
    >>> found = mk.rate_curve(maml, [batch], rates=[0.01, 0.25, 1.0], verbose=0)
    >>> found.best()  # The loss is a parabola of second derivative 4.
    0.25
    """
    own = maml.rule.fixed_rate
    tried = _checked(_default(own) if rates is None else rates)
    adopt(maml, episodes)
    kept = _first(episodes, num_tasks)
    bar = Bar(len(tried), unit="rate", verbose=verbose)
    results: dict[float, Evaluation] = {}
    for rate in tried:
        results[rate] = evaluate_episodes(
            maml,
            kept,
            steps=steps,
            num_tasks=num_tasks,
            metric=metric,
            higher_is_better=higher_is_better,
            queries=queries,
            learning_rate=rate,
            verbose=0,
        )
        bar.update(len(results), {results[rate].metric: results[rate].mean})
    return RateCurve(results, own)


def _default(own: float | None) -> list[float]:
    low, high = (own / REACH, own * REACH) if own else (1e-4, 1.0)
    return [float(f"{r:.3g}") for r in np.geomspace(low, high, NUM_RATES)]


def _checked(rates: Sequence[float]) -> list[float]:
    values = sorted(float(rate) for rate in rates)
    right = bool(values) and all(0.0 < rate < float("inf") for rate in values)
    if not right or len(set(values)) < len(values):
        raise ValueError(
            "`rates` must be finite numbers above 0, each once. "
            f"Received: rates={list(rates)}."
        )
    return values


def _first(episodes: Any, num_tasks: int) -> list[Any]:
    """The batches that hold the first tasks, so that each rate gets the same tasks."""
    kept: list[Any] = []
    done = 0
    for batch in batches(episodes):
        kept.append(batch)
        done += len(tf.nest.flatten(batch[0])[0])
        if done >= num_tasks:
            break
    return kept
