"""The base of all diagnoses: numbers of a run in, a sentence and a remedy out."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.monitoring.look import Look

# Standard errors that count as certain. A run has dozens of looks: with 1.96 standard
# errors, a healthy run would get a finding before its end.
CERTAIN = 4.0
FEWEST_TASKS = 10


@dataclass(frozen=True)
class Finding:
    """A problem that a diagnosis found.

    Attributes:
        title: str, the problem in a few words.
        text: str, a sentence with the numbers that show the problem.
        remedy: str, what to do.
        section: str, the section of the page Troubleshooting about this problem.

    >>> print(Finding("Slow", "Only 20 meta-steps were taken.", "Wait.", ""))
    Slow. Only 20 meta-steps were taken. Wait.
    """

    title: str
    text: str
    remedy: str
    section: str

    def __str__(self) -> str:
        return (
            f"{self.title}. {self.text} {self.remedy}"
            + f" (docs/troubleshooting.md#{self.section})" * bool(self.section)
        )


class Diagnosis(abc.ABC):
    """Looks for one kind of problem in the numbers of a run.

    Attributes:
        title: str, the problem in a few words.
        remedy: str, what to do.
        section: str, the section of the page Troubleshooting about this problem.

    >>> class Slow(Diagnosis):
    ...     title, remedy, section = "Slow", "Wait.", ""
    ...     def found(self, looks):
    ...         last = looks[-1].iteration
    ...         return None if last >= 1_000 else f"Only {last} meta-steps were taken."
    >>> print(Slow()([Look(20, {})]))
    Slow. Only 20 meta-steps were taken. Wait.
    """

    title: str
    remedy: str
    section: str

    def __call__(self, looks: Sequence[Look]) -> Finding | None:
        """The finding, or None if there is no problem.

        Args:
            looks: the last looks at a run, the newest last.
        """
        text = self.found(looks)
        return (
            None
            if text is None
            else Finding(self.title, text, self.remedy, self.section)
        )

    @abc.abstractmethod
    def found(self, looks: Sequence[Look]) -> str | None:
        """A sentence with the numbers that show the problem, or None."""


def on_end(looks: Sequence[Look], count: int) -> Iterator[tuple[str, list[InnerTrace]]]:
    """Each dataset with its last `count` traces, if looks and tasks are enough."""
    if len(looks) < count:
        return
    for part, trace in looks[-1].traces.items():
        if trace.num_tasks >= FEWEST_TASKS and trace.steps:
            yield part, [look.traces[part] for look in looks[-count:]]


def mean_and_error(values: Any) -> tuple[float, float]:
    """Mean and standard error.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))
