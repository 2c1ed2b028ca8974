"""Experiments of papers as data, and the folders of their runs and comparisons."""

from maml_keras.experiments.algorithm_settings import of_images
from maml_keras.experiments.baselines import (
    joint_pretraining,
    linear_probe,
    nearest_class_mean,
    random_initialisation,
    sinusoid_oracle,
)
from maml_keras.experiments.comparing import compare
from maml_keras.experiments.comparison import Comparison
from maml_keras.experiments.fixed_tasks import evaluate
from maml_keras.experiments.preset import Families, Preset, cross_entropy
from maml_keras.experiments.registry import get
from maml_keras.experiments.runs import load, train
from maml_keras.experiments.seed_comparison import SeedComparison
from maml_keras.experiments.trials import Outcome
from maml_keras.experiments.tuned import Tuned
from maml_keras.experiments.tuning import tune

__all__ = [
    "Comparison",
    "Families",
    "Outcome",
    "Preset",
    "SeedComparison",
    "Tuned",
    "compare",
    "cross_entropy",
    "evaluate",
    "get",
    "joint_pretraining",
    "linear_probe",
    "load",
    "nearest_class_mean",
    "of_images",
    "random_initialisation",
    "sinusoid_oracle",
    "train",
    "tune",
]
