"""Model-agnostic meta-learning for Keras: learn to adapt from a few examples."""

from maml_keras import data, models
from maml_keras.callbacks import AdaptationCurves
from maml_keras.evaluation import Evaluation, evaluate_episodes
from maml_keras.gradient_check import MetaGradientError, check_meta_gradient
from maml_keras.inner import InnerLoop
from maml_keras.maml import MAML
from maml_keras.meta_gradients import Backprop, MetaGradient
from maml_keras.objectives import FinalStep, Objective
from maml_keras.rules import SGD, UpdateRule
from maml_keras.selectors import (
    Selector,
    all_but_last_layer,
    all_weights,
    last_layer,
    matching,
)
from maml_keras.task_maps import Chunked, TaskMap
from maml_keras.threads import use_one_thread_per_task

__all__ = [
    "MAML",
    "SGD",
    "AdaptationCurves",
    "Backprop",
    "Chunked",
    "Evaluation",
    "FinalStep",
    "InnerLoop",
    "MetaGradient",
    "MetaGradientError",
    "Objective",
    "Selector",
    "TaskMap",
    "UpdateRule",
    "all_but_last_layer",
    "all_weights",
    "check_meta_gradient",
    "data",
    "evaluate_episodes",
    "last_layer",
    "matching",
    "models",
    "use_one_thread_per_task",
]
