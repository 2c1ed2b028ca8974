"""The result of an evaluation: figures, their intervals and diverged tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maml_keras.evaluation.calibration import Calibration

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
        learning_rate: float, the inner rate in place of the rule's own; None for the
            rule's own.
        calibration: `Calibration`; None if the outputs are no probabilities of
            classes.

    >>> result = Evaluation(
    ...     metric="accuracy",
    ...     per_episode=np.array([[0.2, 0.8], [0.2, 1.0]]),
    ...     diverged_tasks=np.zeros([2, 2], bool),
    ...     batch_norm="support",
    ...     queries=5,
    ...     higher_is_better=True,
    ...     asked="alone",
    ... )
    >>> result.mean
    0.9
    """

    metric: str
    per_episode: Any
    diverged_tasks: Any
    batch_norm: str
    queries: int | tuple[int, int]
    higher_is_better: bool | None
    asked: str = "together"
    learning_rate: float | None = None
    calibration: Calibration | None = None

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
        return f"{self.queries_text}; batch norm: {self.batch_norm}{self._rate}"

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
            calibration=self.calibration and self.calibration.until(steps),
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
            **({} if self.learning_rate is None else {"rate": self.learning_rate}),
            "steps": list(range(self.steps + 1)),
            "mean": _plain(self.curve),
            "half_width_95": _plain(self.half_widths),
            "median": _plain(self.medians),
            "diverged_tasks": [int(n) for n in self.diverged],
            **(
                {}
                if self.calibration is None
                else {"calibration": self.calibration.summary()}
            ),
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
        tasks = "1 task" if self.num_tasks == 1 else f"{self.num_tasks} tasks"
        return (
            f"{self.metric} {self._form(self.mean)} ± {self._form(self.half_width)} "
            f"(95% CI over {tasks}, {self.queries_text}, "
            f"after {self.steps} steps; median {self._form(self.medians[-1])}; "
            f"{self.diverged[-1]} of {self.num_tasks} tasks diverged and are left out "
            f"of the mean; batch norm: {self.batch_norm}{self._rate})"
        )

    @property
    def _rate(self) -> str:
        own = self.learning_rate is None
        return "" if own else f"; inner rate: {self.learning_rate:g}"

    def _kept(self, step: int) -> Any:
        return self.per_episode[~self.diverged_tasks[:, step], step]

    def _form(self, value: float) -> str:
        if np.isinf(value):  # The median is infinite if half of the tasks diverged.
            return "diverged"
        if np.isnan(value):  # One task has no interval, no task has no mean.
            return "none"
        return f"{value:.2%}" if self.metric == "accuracy" else f"{value:.4g}"


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
    """`Evaluation.queries` for tasks with these numbers of queries.

    >>> queries_of([15, 15]), queries_of([15, 1, 5])
    (15, (1, 15))
    """
    fewest, most = min(counts), max(counts)
    return fewest if fewest == most else (fewest, most)


def mean_after(loss: Any, values: Any) -> float:
    """Mean after the last step over the tasks that did not diverge, for a bar."""
    return _mean(values[~diverged_tasks(loss, values)[:, -1], -1])


def _mean(values: Any) -> float:
    return float(values.mean()) if values.size else float("nan")


def _plain(values: Any) -> list[float | None]:
    # JSON has no infinity and no NaN, so None stands for a figure that does not exist.
    return [float(v) if np.isfinite(v) else None for v in values]
