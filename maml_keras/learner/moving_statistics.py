"""The moving statistics of a model's batch norm layers, as values in a state."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend import batch_norm


def momenta(model: keras.Model) -> dict[int, float]:
    """The momentum of each moving statistic that a pass can set, by variable `id`."""
    return {
        id(v): layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and follows_batches(layer)
        for v in (layer.moving_mean, layer.moving_variance)
    }


def follows_batches(layer: keras.layers.BatchNormalization) -> bool:
    """True if a pass can set the layer's moving statistics."""
    return (
        layer.trainable and not batch_norm.renormalises(layer) and layer.momentum < 1.0
    )


class CountingScope(keras.StatelessScope):
    """A scope that counts how often a pass assigns each variable.

    Attributes:
        updates: the counts, by `id` of the variable.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.updates: collections.Counter[int] = collections.Counter()

    def add_update(self, update: tuple[Any, Any]) -> None:
        self.updates[id(update[0])] += 1
        super().add_update(update)


def blank(
    variables: list[Any], state: list[Any], momenta: dict[int, float]
) -> list[Any]:
    """`state` with the moving statistics set to zero.

    A pass updates a statistic to `momentum * old + (1 - momentum) * batch`. If `old`
    is zero, `of_batch` recovers the statistic of the batch without cancellation.
    """
    return [
        tf.zeros_like(old) if id(v) in momenta else old
        for v, old in zip(variables, state)
    ]


def of_batch(
    variables: list[Any],
    after: list[Any],
    momenta: dict[int, float],
    updates: Mapping[int, int],
) -> list[Any]:
    """The state after a pass from `blank`, with the statistics of the pass's batch.

    A layer that is called n times, such as a shared layer, updates n times. The result
    is `sum_i (1 - momentum) momentum^(n - i) batch_i`, whose weights add up to
    `1 - momentum^n`. Dividing by this sum gives the weighted mean of the batches.
    """
    return [
        new / (1.0 - momenta[id(v)] ** updates[id(v)]) if id(v) in momenta else new
        for v, new in zip(variables, after)
    ]


def moved(
    variables: list[Any],
    state: list[Any],
    statistics: list[Any],
    momenta: dict[int, float],
) -> list[Any]:
    """The state after Keras's update by a batch with the given statistics."""
    return [
        old * momenta[id(v)] + new * (1.0 - momenta[id(v)]) if id(v) in momenta else new
        for v, old, new in zip(variables, state, statistics)
    ]
