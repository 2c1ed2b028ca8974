"""A Keras model as a pure function of weights, state and inputs, with the checks of
the model and of its data."""

from maml_keras.learner.batch_norm_policies import (
    Frozen,
    Running,
    Support,
    Transductive,
)
from maml_keras.learner.batch_norm_policy import BatchNormPolicy
from maml_keras.learner.known_targets import KnownTargets
from maml_keras.learner.learner import Learner, Output
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.per_step_batch_norm import PerStep, PerStepRunning

__all__ = [
    "BatchNormPolicy",
    "Frozen",
    "KnownTargets",
    "Learner",
    "Output",
    "PerStep",
    "PerStepRunning",
    "PureLoss",
    "Running",
    "Support",
    "Transductive",
]
