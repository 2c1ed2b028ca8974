"""The form of a diagnosis: numbers of a run in, a sentence and a remedy out."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.monitoring.look import Look

# A run is looked at dozens of times: at 1.96 standard errors a healthy one would be
# accused of something before its end.
CERTAIN = 4.0
FEWEST_TASKS = 10


@dataclass(frozen=True)
class Finding:
    """What a diagnosis found.

    Attributes:
        title: str, the diagnosis in three or four words.
        text: str, a sentence with the numbers that say so.
        remedy: str, what to do.
        section: str, the section of the page Troubleshooting that goes on from here.
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
    """Numbers in, a sentence or nothing out.

    Attributes:
        title: str, what it says when it finds something.
        remedy: str, what to do.
        section: str, the section of Troubleshooting.
    """

    title: str
    remedy: str
    section: str

    def __call__(self, looks: Sequence[Look]) -> Finding | None:
        """The finding, or None.

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
        """A sentence that says what is wrong with which numbers, or None."""


def on_end(looks: Sequence[Look], count: int) -> Iterator[tuple[str, list[InnerTrace]]]:
    """Each part with its last traces, if there were so many looks and enough tasks."""
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
