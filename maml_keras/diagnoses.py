"""What the numbers of a run say is wrong, in plain words, and what to do about it."""

from maml_keras.diagnoses_of_gain import IdleSteps, LabelLeak, NoGain
from maml_keras.diagnoses_of_steps import RateTooLarge, RunawayRate, VanishedGradient
from maml_keras.diagnosis import Diagnosis, Finding

__all__ = [
    "Diagnosis",
    "Finding",
    "IdleSteps",
    "LabelLeak",
    "NoGain",
    "RateTooLarge",
    "RunawayRate",
    "VanishedGradient",
    "all_diagnoses",
]


def all_diagnoses() -> list[Diagnosis]:
    """One of each.

    >>> len(all_diagnoses())
    6
    """
    return [
        LabelLeak(),
        NoGain(),
        IdleSteps(),
        RateTooLarge(),
        RunawayRate(),
        VanishedGradient(),
    ]
