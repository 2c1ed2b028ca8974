"""The result of a comparison: several algorithms on the same test tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from maml_keras.evaluation.result import Evaluation, half_width
from maml_keras.experiments.own_settings import VALIDATION_TASKS, Choice, Grid


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Evaluations of several algorithms on identical test episodes.

    Attributes:
        results: an `Evaluation` by the algorithm's name; the first is the reference.
        iterations: meta-steps taken, by name; for a baseline, gradient steps.
        seconds: training time used, by name, without compilation.
        choices: the inner rate, the steps and the regularisation that a baseline chose
            on validation tasks, by name. Its result has at least that many steps.
        grid: the settings among which baselines chose; None without choices.

    >>> diverged = np.zeros([2, 2], bool)
    >>> far, near = (
    ...     Evaluation("loss", np.array([[2.0, end], [1.0, end]]), diverged,
    ...                "transductive", 5, False) for end in (0.5, 0.25))
    >>> trained, seconds = {"maml": 70, "anil": 70}, {"maml": 2.0, "anil": 1.0}
    >>> comparison = Comparison({"maml": far, "anil": near}, trained, seconds)
    >>> comparison.difference("anil")  # The mean and its 95% half-width.
    (-0.25, 0.0)
    """

    results: dict[str, Evaluation]
    iterations: dict[str, int]
    seconds: dict[str, float]
    choices: dict[str, Choice] = dataclasses.field(default_factory=dict)
    grid: Grid | None = None

    @property
    def steps(self) -> int:
        """The adaptation steps of the algorithms; some baselines have other steps."""
        return min(result.steps for result in self.results.values())

    def end(self, name: str) -> int:
        """The last adaptation step that counts for an algorithm or a baseline."""
        return self.choices[name].steps if name in self.choices else self.steps

    def difference(self, name: str, step: int | None = None) -> tuple[float, float]:
        """Mean of an algorithm's metric minus the reference's, and its half-width.

        The difference is paired: both saw the same tasks, so the difficulty of a task
        cancels. Tasks on which either diverged are left out.

        Args:
            name: str, an algorithm.
            step: int, the adaptation step; None for the end of each, which for a
                baseline is the number of steps that it chose.
        """
        first, *_ = self.results
        ours, reference = self.results[name], self.results[first]
        i, k = (self.end(n) if step is None else step for n in (name, first))
        lost = ours.diverged_tasks[:, i] | reference.diverged_tasks[:, k]
        gap = ours.per_episode[:, i] - reference.per_episode[:, k]
        gap = gap[~lost]
        return (float(gap.mean()) if gap.size else float("nan")), half_width(gap)

    def table(self) -> str:
        """The comparison as a Markdown table, one row for each algorithm.

        A row shows mean ± half-width after 0, 1, 5, 10 and the last of the evaluated
        steps, and the paired difference after the last step. For a baseline that chose
        its own rate, all cells are with this rate; the cell `own choice` has the mean
        after its own number of steps, and so do median, diverged tasks and difference.
        If diverged tasks are left out of a mean, the cell states how many tasks remain.
        If half of the tasks or more diverged, the median's cell is `diverged`.
        """
        first, *_ = self.results
        last = self.steps
        steps = sorted({k for k in (0, 1, 5, 10) if k < last} | {last})
        own = ["own choice"] if self.choices else []
        head = [
            "algorithm",
            "meta-steps",
            "train s",
            *(f"step {k}" for k in steps),
            *own,
            "median",
            "diverged",
            f"end - {first}" if own else f"step {last} - {first}",
            "batch norm",
        ]
        rows = []
        for name, result in self.results.items():
            mean, half = self.difference(name)
            end = self.end(name)
            cells = [_mean_cell(result, k) for k in steps]
            if own:
                chosen = self.choices.get(name)
                cells.append(f"{_mean_cell(result, end)} ({chosen})" if chosen else "")
            rows.append(
                [
                    name,
                    f"{self.iterations[name]:,}",
                    _seconds(self.seconds[name]),
                    *cells,
                    _figure_cell(result, result.medians[end]),
                    _count_cell(result.diverged[end], result),
                    "" if name == first else _difference_cell(result, mean, half),
                    result.batch_norm,
                ]
            )
        return "\n".join(
            f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]
        )

    def __str__(self) -> str:
        result = next(iter(self.results.values()))
        return (
            f"{result.metric}, mean ± 95% half-width over {result.num_tasks} identical "
            f"tasks, diverged ones left out, {result.queries_text}; "
            "differences are paired" + self._chosen_text()
        )

    def _chosen_text(self) -> str:
        if not self.choices:
            return ""
        return (
            f"; {' and '.join(self.choices)} chose on {VALIDATION_TASKS} validation "
            f"tasks from {self.grid}" + self._edges_text()
        )

    def _edges_text(self) -> str:
        assert self.grid is not None
        edges = {name: self.grid.edges(c) for name, c in self.choices.items()}
        told = [f"{name} chose {' and '.join(e)}" for name, e in edges.items() if e]
        if not told:
            return ""
        return (
            f"; at the end of this grid, {', '.join(told)}: a larger grid may be better"
        )

    def summary(self) -> dict[str, Any]:
        """The figures as plain data that JSON can hold."""
        return {
            name: {
                **result.summary(),
                "iterations": self.iterations[name],
                "seconds": self.seconds[name],
                "difference": json_figures(self.difference(name)),
                "differences": [
                    json_figures(self.difference(name, step))
                    for step in range(self.steps + 1)
                ],
                **(
                    {"chosen": {**self.choices[name]._asdict(), "from": str(self.grid)}}
                    if name in self.choices
                    else {}
                ),
            }
            for name, result in self.results.items()
        }


def json_figures(figures: Iterable[float]) -> list[float | None]:
    """Figures for JSON, which has no NaN: None stands for one that does not exist."""
    return [figure if np.isfinite(figure) else None for figure in figures]


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10.0 else f"{value:.2g}"


def _mean_cell(result: Evaluation, step: int) -> str:
    mean, half = result.curve[step], result.half_widths[step]
    if not np.isfinite(mean):
        return "diverged"
    kept = result.num_tasks - result.diverged[step]
    rest = f" ({kept} tasks)" if result.diverged[step] else ""
    return f"{_figure_cell(result, mean)} ± {_figure_cell(result, half)}{rest}"


def _count_cell(number: int, result: Evaluation) -> str:
    return f"{number} of {result.num_tasks}" if number else "0"


def _figure_cell(result: Evaluation, value: float) -> str:
    if np.isinf(value):
        return "diverged"
    if np.isnan(value):  # One task has no interval.
        return "none"
    return f"{value:.1%}" if result.metric == "accuracy" else f"{value:.3g}"


def _difference_cell(result: Evaluation, mean: float, half: float) -> str:
    if not np.isfinite(mean):
        return "no task in common"
    if result.metric == "accuracy":
        return f"{mean:+.1%} ± {_figure_cell(result, half)}"
    return f"{mean:+.3g} ± {half:.2g}" if np.isfinite(half) else f"{mean:+.3g} ± none"
