"""Batch normalisation of each query together with the support set, one by one."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.learner import moving_statistics
from maml_keras.learner.batch_norm_policy import BatchNormPolicy, LayerCall


class Beside(BatchNormPolicy, keras.layers.Layer):
    """Each query is normalised by the support set and that one query together.

    `mean = (1 - s) mean_S + s mean_q`,
    `variance = (1 - s) (variance_S + (mean_S - mean)^2)
    + s (variance_q + (mean_q - mean)^2)`, `s = 1 / (n + 1)`

    `mean_S` and `variance_S` are the statistics of the n support examples at the same
    weights. `mean_q` and `variance_q` are the statistics of the one query over its
    positions. So `mean` and `variance` are the statistics of a batch that holds the
    support set and the query. In training and in evaluation, the prediction of a query
    does not depend on other queries. Each query pass costs one more support pass.

    In this support pass, the support set alone gives the statistics, so that one pass
    serves all queries. TaskNorm (Bronskill et al., 2020,
    https://arxiv.org/abs/2003.03284) has the same form with a learned share s.
    """

    name = "beside"
    built: bool

    def __init__(self) -> None:
        keras.layers.Layer.__init__(self, name=self.name)
        # Zero before the first support set: moving statistics only, as in Keras.
        self.query_share = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="query_share",
        )
        self.built = True

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True

    def query_sees_support(self, *, training: bool) -> bool:
        return True

    def fresh(self) -> Beside:
        return type(self)()

    def statistics(self) -> list[Any]:
        return [self.query_share]

    def settled(self, examples: Any) -> dict[int, Any]:
        count = tf.cast(examples, self.query_share.dtype)
        return {id(self.query_share): 1.0 / (count + 1.0)}

    def layer_call(self, *, batch_statistics: bool, step: Any) -> LayerCall | None:
        return None if batch_statistics else self._normalised

    def _normalised(self, layer: Any, inputs: Any, mask: Any) -> Any:
        x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance, scale, offset = _broadcast(layer, x)
        if moving_statistics.follows_batches(layer):
            share = keras.ops.cast(self.query_share, x.dtype)
            mean, variance = mixed(
                (mean, variance), _of_each_example(x, layer.axis, mask), share
            )
        y = (x - mean) * (tf.math.rsqrt(variance + layer.epsilon) * scale) + offset
        return keras.ops.cast(y, layer.compute_dtype)


def mixed(one: tuple[Any, Any], other: tuple[Any, Any], share: Any) -> tuple[Any, Any]:
    """Mean and variance of two sets together, where `share` is the share of `other`.

    >>> mean, variance = mixed((tf.constant(1.0), tf.constant(1.0)),
    ...                        (tf.constant(5.0), tf.constant(1.0)), 0.5)
    >>> float(mean), float(variance)  # The sets {0, 2} and {4, 6} together.
    (3.0, 5.0)
    """
    (mean, variance), (other_mean, other_variance) = one, other
    apart = other_mean - mean
    return (
        mean + share * apart,
        (1.0 - share) * variance
        + share * other_variance
        + share * (1.0 - share) * tf.square(apart),
    )


def _of_each_example(x: Any, axis: int, mask: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel over the positions of each example."""
    rank = len(x.shape)
    positions = [i for i in range(1, rank) if i != axis % rank]
    if mask is None:
        weight = tf.ones_like(x)
    else:
        missing = [1] * (rank - len(mask.shape))
        shape = tf.concat([tf.shape(mask), missing], axis=0)
        weight = tf.reshape(tf.cast(mask, x.dtype), shape) * tf.ones_like(x)
    count = tf.reduce_sum(weight, positions, keepdims=True)

    def average(values: Any) -> Any:
        total = tf.reduce_sum(values * weight, positions, keepdims=True)
        return tf.math.divide_no_nan(total, count)

    mean = average(x)
    return mean, average(tf.square(x - mean))


def _broadcast(layer: Any, x: Any) -> list[Any]:
    """The layer's statistics, scale and offset in a shape that broadcasts to `x`."""
    shape = [1] * len(x.shape)
    shape[layer.axis] = x.shape[layer.axis]
    own = [
        layer.moving_mean,
        layer.moving_variance,
        layer.gamma if layer.scale else None,
        layer.beta if layer.center else None,
    ]
    neutral = (0.0, 1.0, 1.0, 0.0)
    return [
        tf.constant(none, x.dtype)
        if variable is None
        else tf.reshape(keras.ops.cast(variable, x.dtype), shape)
        for variable, none in zip(own, neutral)
    ]
