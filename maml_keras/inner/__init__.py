"""One task: the inner loop and its variants: update rules, clipping, selectors of the
weights that adapt, and starts."""

from maml_keras.inner.clipping import ClipByNorm, ClipByValue
from maml_keras.inner.learned_rules import MetaCurvature, MetaSGD, PerStepSGD
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.ridge import RidgeHead
from maml_keras.inner.rules import SGD, Adam, Momentum, UpdateRule, rate_of
from maml_keras.inner.selectors import (
    Selector,
    all_but_batch_norm,
    all_but_last_layer,
    all_weights,
    last_layer,
    matching,
    satisfying,
)
from maml_keras.inner.starts import PrototypicalHead, Start

__all__ = [
    "SGD",
    "Adam",
    "ClipByNorm",
    "ClipByValue",
    "InnerLoop",
    "MetaCurvature",
    "MetaSGD",
    "Momentum",
    "PerStepSGD",
    "PrototypicalHead",
    "RidgeHead",
    "Selector",
    "Start",
    "UpdateRule",
    "all_but_batch_norm",
    "all_but_last_layer",
    "all_weights",
    "last_layer",
    "matching",
    "rate_of",
    "satisfying",
]
