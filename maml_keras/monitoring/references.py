"""Networks without meta-training, as a bar for the network that is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.outer.maml import MAML

Weights = list[Any]
"""An array for each of `maml.model.trainable_variables`."""


def untrained_weights(maml: MAML) -> Mapping[str, Weights]:
    """The weights of networks without meta-training, by what they are.

    These are the weights now, and the same with kernels of Keras's default size: the
    papers' first weights are so small that they hardly move in a few steps. A model
    that took meta-steps already has none.

    >>> from maml_keras import SGD, InnerLoop, models
    >>> maml = MAML(models.mlp(), InnerLoop("mse", SGD(0.1)))
    >>> maml.compile("adam")
    >>> list(untrained_weights(maml))
    ['the network that training began with', 'a network with random weights']
    """
    if int(maml.optimizer.iterations.numpy()):
        return {}
    glorot = keras.initializers.GlorotUniform(seed=0)
    now = [np.asarray(v) for v in maml.model.trainable_variables]
    random = [
        np.asarray(glorot(v.shape, v.dtype)) if v.path.endswith("kernel") else value
        for v, value in zip(maml.model.trainable_variables, now)
    ]
    return {
        "the network that training began with": now,
        "a network with random weights": random,
    }


def traces_of(
    maml: MAML, weights: Mapping[str, Weights], trace: Callable[[], InnerTrace]
) -> dict[str, InnerTrace]:
    """What `trace()` finds with each of the weights; the model stays as it is."""
    found = {}
    for name, values in weights.items():
        with _lent(maml.model.trainable_variables, values):
            found[name] = trace()
    return found


@contextlib.contextmanager
def _lent(variables: list[Any], values: Weights) -> Iterator[None]:
    """Variables with other values inside the block."""
    before = [np.asarray(v) for v in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        yield
    finally:
        for variable, value in zip(variables, before):
            variable.assign(value)
