"""Diagnoses: problems that the numbers of a run show, each with its remedy."""

from maml_keras.monitoring.diagnoses.catalogue import all_diagnoses
from maml_keras.monitoring.diagnoses.diagnosis import Diagnosis, Finding
from maml_keras.monitoring.diagnoses.of_gain import IdleSteps, LabelLeak, NoGain
from maml_keras.monitoring.diagnoses.of_steps import (
    BadTasks,
    RateTooLarge,
    RunawayRate,
    VanishedGradient,
)
from maml_keras.monitoring.diagnoses.of_training import NoBetterThanUntrained

__all__ = [
    "BadTasks",
    "Diagnosis",
    "Finding",
    "IdleSteps",
    "LabelLeak",
    "NoBetterThanUntrained",
    "NoGain",
    "RateTooLarge",
    "RunawayRate",
    "VanishedGradient",
    "all_diagnoses",
]
