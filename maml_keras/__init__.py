"""Model-agnostic meta-learning for Keras: learn to adapt from a few examples."""

from maml_keras import data
from maml_keras.gradient_check import MetaGradientError, check_meta_gradient
from maml_keras.inner import InnerLoop
from maml_keras.maml import MAML
from maml_keras.meta_gradients import Backprop
from maml_keras.objectives import FinalStep
from maml_keras.rules import SGD, UpdateRule
from maml_keras.selectors import (
    all_but_last_layer,
    all_weights,
    last_layer,
    matching,
)
