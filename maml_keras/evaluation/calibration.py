"""How far confidence can be trusted: calibration error, Brier score, reliability."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.evaluation.output_forms import EPSILON, Classes, Labels
from maml_keras.learner import masks

BINS = 15
# Columns of the statistics of a task: three for each bin, then these sums.
SUMS = "count", "brier", "nll"
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy over all queries of all tasks, at each adaptation step.

    The confidence of a prediction is its highest probability. Fifteen bins of equal
    width divide the confidences from 0 to 1, each without its upper end. Tasks that
    diverged at a step are left out there, as in `Evaluation`.

    Attributes:
        statistics: floats `[tasks, K + 1, 3 * 15 + 3]`, as `task_statistics` returns.
        left_out: bool `[tasks, K + 1]`, the diverged tasks.

    Reference: Guo et al., 2017, https://arxiv.org/abs/1706.04599

    >>> rows = tf.constant([[[0.9, 0.1], [0.8, 0.2]]])  # One task, two queries.
    >>> right, wrong = tf.constant([[0, 1]]), tf.ones([1, 2])
    >>> found = task_statistics(rows, right, wrong).numpy()[:, None]
    >>> round(Calibration(found, np.zeros([1, 1], bool)).error(), 6)  # (0.1 + 0.8) / 2
    0.45
    """

    statistics: Any
    left_out: Any

    @property
    def steps(self) -> int:
        """K, the number of adaptation steps."""
        return int(self.statistics.shape[1]) - 1

    def bins(self, step: int = -1) -> dict[str, Any]:
        """The reliability diagram's numbers, each `[15]`.

        Args:
            step: int, the adaptation step; -1 for the last.

        Returns:
            `count`: queries in each bin; `confidence` and `accuracy`: their means, NaN
            in an empty bin.
        """
        count, confidence, right = self._sums(step)
        with np.errstate(invalid="ignore"):
            return {
                "count": count,
                "confidence": confidence / count,
                "accuracy": right / count,
            }

    def error(self, step: int = -1) -> float:
        """The expected calibration error.

        `ECE = sum_b (n_b / n) * |accuracy_b - confidence_b|`, over all queries of all
        tasks. With few queries in a bin the error is above 0 by chance, even if every
        confidence is right.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        return float(_error(self._kept(step).sum(axis=0)))

    def half_width(self, step: int = -1) -> float:
        """Half of the error's 95% interval over tasks.

        1.96 standard deviations of the error of 1000 draws of tasks with replacement.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        kept = self._kept(step)
        if len(kept) < 2:
            return float("nan")
        generator = np.random.default_rng(0)
        draws = generator.multinomial(
            len(kept), np.full(len(kept), 1 / len(kept)), DRAWS
        )
        return float(1.96 * _error(draws @ kept).std(ddof=1))

    def overconfidence(self, step: int = -1) -> float:
        """Mean confidence minus accuracy: above 0 if the model is too sure.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        count, confidence, right = (part.sum() for part in self._sums(step))
        return float((confidence - right) / count) if count else float("nan")

    def brier(self, step: int = -1) -> float:
        """The Brier score: `mean(sum_c (p_c - [y = c])^2)`, from 0 to 2.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        return self._mean("brier", step)

    def nll(self, step: int = -1) -> float:
        """The negative log-likelihood: `mean(-log p_y)`.

        A probability below 1e-7 counts as 1e-7, as in Keras.

        Args:
            step: int, the adaptation step; -1 for the last.
        """
        return self._mean("nll", step)

    def until(self, steps: int) -> Calibration:
        """The same with the steps `0..steps` alone."""
        return Calibration(
            self.statistics[:, : steps + 1], self.left_out[:, : steps + 1]
        )

    def summary(self) -> dict[str, Any]:
        """The figures at each step as plain data; what does not exist is None."""
        steps = range(self.steps + 1)
        figures = {
            "error": self.error,
            "half_width_95": self.half_width,
            "overconfidence": self.overconfidence,
            "brier": self.brier,
            "nll": self.nll,
        }
        return {
            "bins": BINS,
            **{
                name: [v if np.isfinite(v) else None for v in map(figure, steps)]
                for name, figure in figures.items()
            },
        }

    def table(self) -> str:
        """A line for each step."""
        head = (
            f"{'step':>4}  {'ECE':>7}  {'95% CI':>8}  {'too sure':>8}  {'Brier':>7}  "
            f"{'NLL':>7}"
        )
        lines = [
            f"{k:>4}  {self.error(k):>7.2%}  ±{self.half_width(k):>7.2%}  "
            f"{self.overconfidence(k):>+8.2%}  {self.brier(k):>7.4f}  "
            f"{self.nll(k):>7.4f}"
            for k in range(self.steps + 1)
        ]
        return "\n".join([head, *lines])

    def __str__(self) -> str:
        queries = int(self._sums(-1)[0].sum())
        return (
            f"calibration error {self.error():.2%} ± {self.half_width():.2%} (95% CI "
            f"over {len(self._kept(-1))} tasks, ECE in {BINS} bins of equal width over "
            f"{queries} queries, after {self.steps} steps; confidence minus accuracy "
            f"{self.overconfidence():+.2%}; Brier score {self.brier():.4f}; negative "
            f"log-likelihood {self.nll():.4f})"
        )

    def _kept(self, step: int) -> Any:
        kept = ~self.left_out[:, step]
        return self.statistics[kept, step].astype(np.float64)

    def _sums(self, step: int) -> Any:
        """Count, confidence and right predictions `[3, 15]`, added over tasks."""
        return self._kept(step).sum(axis=0)[: 3 * BINS].reshape(3, BINS)

    def _mean(self, name: str, step: int) -> float:
        sums = dict(zip(SUMS, self._kept(step).sum(axis=0)[3 * BINS :]))
        return float(sums[name] / sums["count"]) if sums["count"] else float("nan")


def task_statistics(rows: Any, classes: Any, weights: Any) -> Any:
    """What the calibration of each task needs.

    Args:
        rows: probabilities `[tasks, ..., classes]`.
        classes: int `[tasks, ...]`, the right classes.
        weights: floats `[tasks, ...]`, 0 for what does not count.

    Returns:
        Floats `[tasks, 3 * 15 + 3]`: for each bin the count; for each bin the sum of
        confidences; for each bin the right predictions; then count, sum of Brier
        scores, and sum of negative log-likelihoods.
    """
    tasks, ways = tf.shape(rows)[0], tf.shape(rows)[-1]
    rows = tf.reshape(rows, [tasks, -1, ways])
    classes, weights = (tf.reshape(t, [tasks, -1]) for t in (classes, weights))
    confidence = tf.reduce_max(rows, axis=-1)
    right = tf.cast(
        tf.argmax(rows, axis=-1, output_type=tf.int32) == classes, tf.float32
    )
    truth = tf.one_hot(classes, ways)
    of_truth = tf.reduce_sum(rows * truth, axis=-1)
    brier = tf.reduce_sum(tf.square(rows - truth), axis=-1)
    nll = -tf.math.log(tf.maximum(of_truth, EPSILON))

    # NaN of a diverged task falls into some bin; the task is left out later.
    bins = tf.clip_by_value(tf.cast(confidence * BINS, tf.int32), 0, BINS - 1)
    places = bins + BINS * tf.range(tasks)[:, None]

    def counted(values: Any) -> Any:
        return tf.where(weights > 0, values * weights, 0.0)

    parts = [
        tf.reshape(
            tf.math.unsorted_segment_sum(counted(values), places, BINS * tasks),
            [tasks, BINS],
        )
        for values in (tf.ones_like(confidence), confidence, right)
    ]
    sums = [
        tf.reduce_sum(counted(values), axis=1, keepdims=True)
        for values in (tf.ones_like(brier), brier, nll)
    ]
    return tf.concat([*parts, *sums], axis=1)


def of_outputs(form: Classes | Labels, query_y: Any, output: Any, known: Any) -> Any:
    """The statistics of each task at one step.

    Args:
        form: the form of the outputs.
        query_y: targets `[tasks, queries, ...]`.
        output: predictions `[tasks, queries, ...]`.
        known: the masks of the output, by `masks.taken`.
    """
    rows = form.rows(output)
    classes, counted = form.classes(query_y, rows)
    weights = tf.cast(counted, tf.float32)
    for mask in known.values():
        rank = weights.shape.rank
        weights *= tf.cast(masks.expanded(masks.reduced(mask, rank), rank), tf.float32)
    return task_statistics(rows, classes, weights)


def _error(sums: Any) -> Any:
    """The calibration error of sums `[..., 3 * 15 + 3]` over tasks."""
    count, confidence, right = np.split(sums[..., : 3 * BINS], 3, axis=-1)
    total = count.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.abs(confidence - right).sum(axis=-1) / total
