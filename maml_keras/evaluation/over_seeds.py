"""The mean of a metric over training seeds and test tasks, with both intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class SeedMean:
    """A mean over runs of several seeds, tested on the same tasks.

    `x[s, t] = mean + seed_s + task_t + rest_st`, a model of random effects. Its mean
    squares tell the three apart, and the 95% intervals are Student's, with
    Satterthwaite's degrees of freedom for `half_width`, which is never below the two
    others.

    Attributes:
        mean: float, over all runs and tasks.
        over_seeds: float, half-width for these tasks and any seed: what training
            anew would change.
        over_tasks: float, half-width for these runs and any task: what other test
            tasks would change.
        half_width: float, half-width for any seed and any task.
        seeds: int, the runs.
        tasks: int, the tasks that count.

    >>> SeedMean.of([[1.0, 2.0, 3.0], [1.1, 2.1, 3.1]]).mean
    2.05
    """

    mean: float
    over_seeds: float
    over_tasks: float
    half_width: float
    seeds: int
    tasks: int

    @classmethod
    def of(cls, values: Any) -> SeedMean:
        """The mean and its intervals.

        Args:
            values: floats `[seeds, tasks]`, at least two of each; with fewer, the
                intervals are NaN.

        Raises:
            ImportError: if SciPy is missing.
        """
        x = np.asarray(values, np.float64)
        seeds, tasks = x.shape
        if min(seeds, tasks) < 2:
            mean = float(x.mean()) if x.size else float("nan")
            unknown = float("nan")
            return cls(mean, unknown, unknown, unknown, seeds, tasks)
        mean, by_seed, by_task = x.mean(), x.mean(1), x.mean(0)
        rest = x - by_seed[:, None] - by_task + mean
        # Mean squares and their degrees of freedom.
        of_seeds = tasks * by_seed.var(ddof=1), seeds - 1
        of_tasks = seeds * by_task.var(ddof=1), tasks - 1
        free = (seeds - 1) * (tasks - 1)
        of_rest = (rest**2).sum() / free, free
        parts = [(1, *of_tasks)]
        if of_seeds[0] > of_rest[0]:  # Else the seeds show no effect of their own.
            parts += [(1, *of_seeds), (-1, *of_rest)]
        halves = (
            _half_width(terms, seeds * tasks)
            for terms in ([(1, *of_seeds)], [(1, *of_tasks)], parts)
        )
        alone, other, both = halves
        # Its degrees of freedom are an approximation, which may be too many.
        both = max(alone, other, both)
        return cls(float(mean), alone, other, both, seeds, tasks)


def _half_width(parts: list[tuple[int, float, int]], count: int) -> float:
    """Half the 95% interval from signed mean squares and their degrees of freedom."""
    total = sum(sign * square for sign, square, _ in parts)
    if total <= 0.0:
        return 0.0
    freedom = total**2 / sum(square**2 / degrees for _, square, degrees in parts)
    # The formula falls towards zero where a subtraction leaves little of the squares.
    fewest = min(degrees for sign, _, degrees in parts if sign > 0)
    freedom = max(freedom, fewest)
    return float(_student().ppf(0.975, freedom) * np.sqrt(total / count))


def check_intervals() -> None:
    """Refuses to go on if SciPy is missing.

    Raises:
        ImportError: if SciPy is missing.
    """
    _student()


def _student() -> Any:
    """Student's distribution."""
    try:
        from scipy.stats import t
    except ImportError as error:
        raise ImportError(
            "Intervals over seeds need SciPy. Install it with `pip install "
            "'maml_keras[seeds]'`."
        ) from error
    return t


def probability_of_better(ours: Any, theirs: Any, higher_is_better: bool) -> float:
    """How often a run of one algorithm beats a run of another.

    `mean over all pairs of runs of [ours better] + [equal] / 2`, each run measured by
    its mean over tasks (Agarwal et al. 2021, arXiv:2108.13264).

    Args:
        ours: floats `[runs]`.
        theirs: floats `[runs]`.
        higher_is_better: bool, the direction of the metric.

    Returns:
        Float, 0 to 1.

    >>> probability_of_better([0.9, 0.8], [0.7, 0.8], higher_is_better=True)
    0.875
    """
    gaps = np.subtract.outer(np.asarray(ours), np.asarray(theirs))
    gaps = gaps if higher_is_better else -gaps
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())
