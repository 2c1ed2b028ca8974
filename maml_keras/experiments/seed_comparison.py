"""The result of a comparison with several training seeds on the same test tasks."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import numpy as np

from maml_keras.evaluation.over_seeds import SeedMean, probability_of_better
from maml_keras.evaluation.result import Evaluation
from maml_keras.experiments.comparison import Comparison, json_figures

# Columns of `csv`.
COLUMNS = (
    "algorithm",
    "seeds",
    "tasks",
    "diverged",
    "mean",
    "over_seeds",
    "over_tasks",
    "half_width",
    "difference",
    "difference_half_width",
    "probability",
)


@dataclasses.dataclass(frozen=True)
class SeedComparison:
    """Algorithms that were trained with each of several seeds, on identical test tasks.

    All figures are those after the last adaptation step; for a baseline, after the
    steps that it chose. A task on which any run of an algorithm diverged is left out of
    the algorithm's mean, and counted. The intervals are those of `SeedMean`.

    Attributes:
        comparisons: a `Comparison` by seed, all of the same algorithms.

    >>> still = np.zeros([2, 1], bool)
    >>> def run(first, second):
    ...     values = np.array([[first], [second]])
    ...     return Evaluation("loss", values, still, "transductive", 5, False)
    >>> count, seconds = {"maml": 70, "anil": 70}, {"maml": 2.0, "anil": 1.0}
    >>> seeds = SeedComparison({
    ...     seed: Comparison(
    ...         {"maml": run(0.5, 0.3 + seed), "anil": run(0.4, 0.2 + seed)},
    ...         count, seconds)
    ...     for seed in (0, 1)})
    >>> round(seeds.difference("anil").mean, 6), seeds.probability("anil")
    (-0.1, 0.75)
    """

    comparisons: dict[int, Comparison]

    @property
    def names(self) -> list[str]:
        """The algorithms; the others are compared with the first."""
        return list(next(iter(self.comparisons.values())).results)

    @property
    def metric(self) -> str:
        """The metric of all figures."""
        return self._first.metric

    def result(self, name: str) -> SeedMean:
        """The mean of an algorithm and its intervals."""
        values, lost = self._ends(name)
        return SeedMean.of(values[:, ~lost.any(0)])

    def difference(self, name: str) -> SeedMean:
        """The mean of an algorithm minus the reference's, and its intervals.

        The difference is paired by seed and task: the runs of a seed began with the
        same weights and saw the same training episodes.
        """
        (ours, lost), (reference, gone) = self._ends(name), self._ends(self.names[0])
        return SeedMean.of((ours - reference)[:, ~(lost | gone).any(0)])

    def probability(self, name: str) -> float:
        """The share of pairs of runs in which the algorithm beats the reference.

        Each run of the algorithm meets each run of the reference, on the tasks on which
        none diverged. NaN if nobody said which direction of the metric is better.
        """
        better = self._first.higher_is_better
        (ours, lost), (reference, gone) = self._ends(name), self._ends(self.names[0])
        kept = ~(lost | gone).any(0)
        if better is None or not kept.any():
            return float("nan")
        return probability_of_better(
            ours[:, kept].mean(1), reference[:, kept].mean(1), better
        )

    def diverged(self, name: str) -> int:
        """How many of the seeds × tasks diverged."""
        return int(self._ends(name)[1].sum())

    def run_means(self, name: str) -> Any:
        """The mean of each run `[seeds]`, over the tasks on which no run diverged."""
        values, lost = self._ends(name)
        kept = values[:, ~lost.any(0)]
        return kept.mean(1) if kept.size else np.full(len(kept), np.nan)

    def table(self) -> str:
        """The comparison as a Markdown table, one row for each algorithm."""
        head, *rows = self._text_rows()
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def latex(self) -> str:
        """The table for LaTeX, with the rules of the package booktabs."""
        signs: dict[str, str | int | None] = {"±": r"$\pm$", "%": r"\%", "_": r"\_"}
        head, *rows = (
            " & ".join(cell.translate(str.maketrans(signs)) for cell in row) + r" \\"
            for row in self._text_rows()
        )
        columns = "l" + "r" * (len(self._text_rows()[0]) - 1)
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                head,
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )

    def csv(self) -> str:
        """The figures as comma-separated values, one line for each algorithm."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._figures(name) for name in self.names)
        return text.getvalue()

    def summary(self) -> dict[str, Any]:
        """The figures as plain data that JSON can hold."""
        return {
            "seeds": list(self.comparisons),
            "algorithms": {
                name: {
                    **{
                        key: None if isinstance(v, float) and not np.isfinite(v) else v
                        for key, v in self._figures(name).items()
                        if key != "algorithm"
                    },
                    "runs": json_figures(self.run_means(name).tolist()),
                }
                for name in self.names
            },
        }

    def __str__(self) -> str:
        result = self._first
        seeds = ", ".join(map(str, self.comparisons))
        return (
            f"{result.metric} after the last step, over seeds {seeds} and "
            f"{result.num_tasks} identical tasks, {result.queries_text}. ±: half of a "
            "95% interval; `seeds` for new training runs on these tasks, `tasks` for "
            "new tasks with these runs, `both` for new runs on new tasks. Differences "
            "are paired by seed and task; `better` is the share of pairs of runs that "
            f"beat {self.names[0]}"
        )

    @property
    def _first(self) -> Evaluation:
        comparison = next(iter(self.comparisons.values()))
        return comparison.results[self.names[0]]

    def _ends(self, name: str) -> tuple[Any, Any]:
        """The metric and the diverged tasks at the end, `[seeds, tasks]` each."""
        found = [(c.results[name], c.end(name)) for c in self.comparisons.values()]
        return (
            np.stack([result.per_episode[:, end] for result, end in found]).astype(
                np.float64
            ),
            np.stack([result.diverged_tasks[:, end] for result, end in found]),
        )

    def _figures(self, name: str) -> dict[str, Any]:
        first = name == self.names[0]
        result = self.result(name)
        gap = None if first else self.difference(name)
        return {
            "algorithm": name,
            "seeds": result.seeds,
            "tasks": result.tasks,
            "diverged": self.diverged(name),
            "mean": result.mean,
            "over_seeds": result.over_seeds,
            "over_tasks": result.over_tasks,
            "half_width": result.half_width,
            "difference": gap and gap.mean,
            "difference_half_width": gap and gap.half_width,
            "probability": None if first else self.probability(name),
        }

    def _text_rows(self) -> list[list[str]]:
        """The cells of the table, its head first."""
        reference = self.names[0]
        share = self.metric == "accuracy"

        def form(value: float, sign: str = "") -> str:
            if not np.isfinite(value):
                return "n/a"
            return f"{value:{sign}.1%}" if share else f"{value:{sign}.3g}"

        head = ["algorithm", "mean", "± seeds", "± tasks", "± both", "lowest run"]
        head += ["highest run", f"- {reference}", "better", "diverged"]
        rows = [head]
        for name in self.names:
            own, gap = self.result(name), self.difference(name)
            runs, lost = self.run_means(name), self.diverged(name)
            chance = self.probability(name)
            better = "n/a" if np.isnan(chance) else f"{chance:.0%}"
            apart = f"{form(gap.mean, '+')} ± {form(gap.half_width)}"
            rows.append(
                [
                    name,
                    *map(form, (own.mean, own.over_seeds, own.over_tasks)),
                    *map(form, (own.half_width, runs.min(), runs.max())),
                    "" if name == reference else apart,
                    "" if name == reference else better,
                    f"{lost} of {own.seeds * self._first.num_tasks}" if lost else "0",
                ]
            )
        return rows
