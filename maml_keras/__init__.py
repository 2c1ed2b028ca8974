"""Model-agnostic meta-learning for Keras: learn to adapt from a few examples."""

from maml_keras import data, diagnoses, models, pictures, recipes, views
from maml_keras.adapters import with_low_rank_adapters
from maml_keras.backup import WholeBackup
from maml_keras.callbacks import AdaptationCurves
from maml_keras.cards import ModelCard, model_card
from maml_keras.clipping import ClipByNorm, ClipByValue
from maml_keras.contexts import ContextFilm, ContextInput
from maml_keras.conversion import Conversion, convert
from maml_keras.evaluation import Evaluation, evaluate_episodes
from maml_keras.gradient_check import MetaGradientError, check_meta_gradient
from maml_keras.implicit import Implicit
from maml_keras.inner import InnerLoop
from maml_keras.inner_trace import InnerTrace, trace_inner_loop
from maml_keras.learned_rules import MetaCurvature, MetaSGD, PerStepSGD
from maml_keras.low_rank import LowRank
from maml_keras.low_rank_attention import LowRankAttention
from maml_keras.maml import MAML
from maml_keras.meta_gradients import Backprop, FirstOrder, MetaGradient, Phases
from maml_keras.objectives import FinalStep, MultiStep, Objective
from maml_keras.reptile import Reptile
from maml_keras.rules import SGD, Adam, Momentum, UpdateRule, rate_of
from maml_keras.selectors import (
    Selector,
    all_but_batch_norm,
    all_but_last_layer,
    all_weights,
    last_layer,
    matching,
    satisfying,
)
from maml_keras.shipped import fine_tune, to_keras, warm_start
from maml_keras.starts import PrototypicalHead, Start
from maml_keras.task_maps import Chunked, TaskMap
from maml_keras.threads import use_one_thread_per_task
from maml_keras.watch import Watch

__all__ = [
    "MAML",
    "SGD",
    "Adam",
    "AdaptationCurves",
    "Backprop",
    "Chunked",
    "ClipByNorm",
    "ClipByValue",
    "ContextFilm",
    "ContextInput",
    "Conversion",
    "Evaluation",
    "FinalStep",
    "FirstOrder",
    "Implicit",
    "InnerLoop",
    "InnerTrace",
    "LowRank",
    "LowRankAttention",
    "MetaCurvature",
    "MetaGradient",
    "MetaGradientError",
    "MetaSGD",
    "ModelCard",
    "Momentum",
    "MultiStep",
    "Objective",
    "PerStepSGD",
    "Phases",
    "PrototypicalHead",
    "Reptile",
    "Selector",
    "Start",
    "TaskMap",
    "UpdateRule",
    "Watch",
    "WholeBackup",
    "all_but_batch_norm",
    "all_but_last_layer",
    "all_weights",
    "check_meta_gradient",
    "convert",
    "data",
    "diagnoses",
    "evaluate_episodes",
    "fine_tune",
    "last_layer",
    "matching",
    "model_card",
    "models",
    "pictures",
    "rate_of",
    "recipes",
    "satisfying",
    "to_keras",
    "trace_inner_loop",
    "use_one_thread_per_task",
    "views",
    "warm_start",
    "with_low_rank_adapters",
]
