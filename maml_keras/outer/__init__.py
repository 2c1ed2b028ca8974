"""Many tasks: `MAML` and its training, the meta-gradients and the check that proves
them right."""

from maml_keras.outer.backup import WholeBackup
from maml_keras.outer.bad_task_policies import BadTaskError, BadTaskPolicy
from maml_keras.outer.gradient_check import MetaGradientError, check_meta_gradient
from maml_keras.outer.implicit import Implicit
from maml_keras.outer.maml import MAML
from maml_keras.outer.meta_gradients import (
    Backprop,
    Estimate,
    FirstOrder,
    MetaGradient,
    Phases,
)
from maml_keras.outer.objectives import FinalStep, MultiStep, Objective, TaskProblem
from maml_keras.outer.reptile import Reptile
from maml_keras.outer.round_cost import RoundCost, round_cost
from maml_keras.outer.task_weights import BySize, EqualTasks, TaskWeights

__all__ = [
    "MAML",
    "Backprop",
    "BadTaskError",
    "BadTaskPolicy",
    "BySize",
    "EqualTasks",
    "Estimate",
    "FinalStep",
    "FirstOrder",
    "Implicit",
    "MetaGradient",
    "MetaGradientError",
    "MultiStep",
    "Objective",
    "Phases",
    "Reptile",
    "RoundCost",
    "TaskProblem",
    "TaskWeights",
    "WholeBackup",
    "check_meta_gradient",
    "round_cost",
]
