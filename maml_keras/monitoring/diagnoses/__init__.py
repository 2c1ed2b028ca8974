"""What the numbers of a run say is wrong, in plain words, and what to do about it."""

from maml_keras.monitoring.diagnoses.catalogue import all_diagnoses
from maml_keras.monitoring.diagnoses.diagnosis import Diagnosis, Finding
from maml_keras.monitoring.diagnoses.of_gain import IdleSteps, LabelLeak, NoGain
from maml_keras.monitoring.diagnoses.of_steps import (
    RateTooLarge,
    RunawayRate,
    VanishedGradient,
)

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
