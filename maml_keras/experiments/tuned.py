"""The result of a search: all trials, the best one, and where it lies."""

from __future__ import annotations

import dataclasses
from typing import Any

from maml_keras.experiments import trials
from maml_keras.experiments.preset import Preset
from maml_keras.experiments.search_space import Space
from maml_keras.experiments.trials import Outcome


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The trials of a search, judged on validation tasks.

    The best figure is too good as a promise: the best of many is partly luck. Train
    with the best settings, and take the figure on test tasks.

    Attributes:
        preset: the preset with the best settings.
        outcomes: how each trial ended, in order.
        space: the searched settings.
        metric: str, `"accuracy"` or `"loss"`.
        higher_is_better: bool, whether a higher metric is better.
        epochs: int, epochs of a whole training.
        num_tasks: int, validation tasks.

    >>> from maml_keras.experiments import get, search_space
    >>> space = search_space.read("inner_rate=0.01:1:log", "maml")
    >>> outcomes = [
    ...     Outcome({"inner_rate": 0.1}, "finished", 20, 0.5, 0.5, 0.1, 0),
    ...     Outcome({"inner_rate": 0.9}, "diverged", 3, float("inf"), 7.0, 2.0, 60)]
    >>> found = Tuned(get("sinusoid"), outcomes, space, "loss", False, 20, 100)
    >>> found.best.changes, found.count("diverged"), found.edges()
    ({'inner_rate': 0.1}, 1, [])
    """

    preset: Preset
    outcomes: list[Outcome]
    space: Space
    metric: str
    higher_is_better: bool
    epochs: int
    num_tasks: int

    @property
    def best(self) -> Outcome:
        """The whole training with the best score; the first among equals."""
        return best_of(self.outcomes, self.epochs, higher=self.higher_is_better)

    def count(self, end: str) -> int:
        """How many trials ended as `"finished"`, `"stopped"` or `"diverged"`."""
        return sum(outcome.end == end for outcome in self.outcomes)

    def edges(self) -> list[str]:
        """The searched intervals near whose end the best value lies."""
        changes = self.best.changes
        near = {name: v.edge_of(changes[name]) for name, v in self.space.items()}
        return [f"{name} is near its {end}" for name, end in near.items() if end]

    def table(self) -> str:
        """A Markdown table of all trials, the best first."""
        names = list(self.space)
        head = [*names, self.metric, "95% CI", "diverged tasks", "epochs", "end"]
        rows = [head, ["---"] * len(head)]
        for outcome in self.ranked():
            lost = outcome.diverged_tasks
            rows.append(
                [
                    *(_form(outcome.changes[name]) for name in names),
                    self._metric(outcome.mean),
                    f"± {self._metric(outcome.half_width)}",
                    f"{lost} of {self.num_tasks}" if lost else "0",
                    str(outcome.epochs),
                    outcome.end,
                ]
            )
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def ranked(self) -> list[Outcome]:
        """All trials: whole trainings by score, then the others by score."""
        sign = -1.0 if self.higher_is_better else 1.0

        def key(outcome: Outcome) -> tuple[bool, bool, float]:
            return (
                outcome.end == trials.DIVERGED,
                not is_whole(outcome, self.epochs),
                sign * outcome.score,
            )

        return sorted(self.outcomes, key=key)

    def summary(self) -> dict[str, Any]:
        """The figures as plain data that JSON can hold."""
        return {
            "metric": self.metric,
            "tasks": self.num_tasks,
            "best": self.best.row(),
            "trials": [outcome.row() for outcome in self.outcomes],
        }

    def __str__(self) -> str:
        best, number = self.best, len(self.outcomes)
        values = ", ".join(f"{k} {_form(v)}" for k, v in best.changes.items())
        edges = "; ".join(self.edges())
        more = f" A wider search may find better settings: {edges}." if edges else ""
        return (
            f"best of {number} trials: {values}, {self.metric} "
            f"{self._metric(best.mean)} ± {self._metric(best.half_width)} (95% CI over "
            f"{self.num_tasks} validation tasks, which chose it: a figure to publish "
            f"needs test tasks); {self.count('stopped')} trials were stopped early, "
            f"{self.count('diverged')} diverged.{more}"
        )

    def _metric(self, value: float) -> str:
        return f"{value:.2%}" if self.metric == "accuracy" else f"{value:.4g}"


def is_whole(outcome: Outcome, epochs: int) -> bool:
    """Whether a trial trained to the end of a whole training."""
    return outcome.end == trials.FINISHED and outcome.epochs >= epochs


def best_of(outcomes: list[Outcome], epochs: int, *, higher: bool) -> Outcome:
    """The whole training with the best score.

    Raises:
        ValueError: if no trial trained to its end.
    """
    whole = [outcome for outcome in outcomes if is_whole(outcome, epochs)]
    if not whole:
        lost = sum(outcome.end == trials.DIVERGED for outcome in outcomes)
        raise ValueError(
            "A search needs a trial that trains to its end. Received: "
            f"{len(outcomes)} trials, of which {lost} diverged. Search lower rates or "
            "fewer steps in a new folder."
        )
    return (max if higher else min)(whole, key=lambda outcome: outcome.score)


def _form(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
