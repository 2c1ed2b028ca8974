"""The list of this library's diagnoses."""

from __future__ import annotations

from maml_keras.monitoring.diagnoses.diagnosis import Diagnosis
from maml_keras.monitoring.diagnoses.of_gain import IdleSteps, LabelLeak, NoGain
from maml_keras.monitoring.diagnoses.of_steps import (
    BadTasks,
    RateTooLarge,
    RunawayRate,
    VanishedGradient,
)
from maml_keras.monitoring.diagnoses.of_training import NoBetterThanUntrained


def all_diagnoses() -> list[Diagnosis]:
    """A list with one of each diagnosis.

    >>> len(all_diagnoses())
    8
    """
    return [
        LabelLeak(),
        NoGain(),
        IdleSteps(),
        BadTasks(),
        RateTooLarge(),
        RunawayRate(),
        VanishedGradient(),
        NoBetterThanUntrained(),
    ]
