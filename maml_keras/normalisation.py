"""Batch normalisation with its derivative written out."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def batch_normalised(
    x: Any, scale: Any, offset: Any, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """`x` normalised over all axes but the last by its own batch's statistics.

    `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, differentiable to
    every order in all of `x`, `scale` and `offset`.

    The derivative of the plain formula passes over `x` about twenty times, because it
    goes through mean and variance apart. Their sum has a short form, in which the
    column sums are products with a row of ones, and half of the passes are gone. (The
    fused kernel that TensorFlow has is no faster in a meta-step: it writes past the
    cache, and the convolution that follows waits for it.)

    Args:
        x: float tensor `[..., channels]`.
        scale: None or `[channels]`.
        offset: None or `[channels]`.
        epsilon: float, added to the variance.

    Returns:
        `y` like `x`, and the batch's `mean` and `variance`, `[channels]`.

    Reference: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167

    >>> y, mean, variance = batch_normalised(
    ...     tf.constant([[1.0], [3.0]]), None, None, epsilon=0.0)
    >>> y.numpy().ravel(), float(mean[0]), float(variance[0])
    (array([-1.,  1.], dtype=float32), 2.0, 1.0)
    """
    channels = x.shape[-1]
    rows = tf.reshape(x, [-1, channels])
    if scale is None:
        scale = tf.ones([channels], x.dtype)
    if offset is None:
        offset = tf.zeros([channels], x.dtype)
    y = _normalised(rows, scale, offset, tf.constant(epsilon, x.dtype))
    # Apart from the kernel, so that these too have their derivative; where nobody asks
    # for it, the graph optimiser merges them with the kernel's own.
    mean, _, variance = _moments(rows)
    return tf.reshape(y, tf.shape(x)), mean, variance


def _kernel(x: Any, scale: Any, offset: Any, epsilon: Any) -> Any:
    _, centred, variance = _moments(x)
    rate = tf.math.rsqrt(variance + epsilon)

    def gradient(upstream: Any) -> Any:
        # With s = scale * rate and p = sum(dy * (x - mean)):
        # dx = s * (dy - mean(dy)) - (x - mean) * s * rate^2 * p / n.
        count = tf.cast(tf.shape(x)[0], x.dtype)
        total, product = _column_sums(upstream), _column_sums(upstream * centred)
        factor = scale * rate
        towards = factor * (upstream - total / count)
        back = centred * (factor * rate * rate * product / count)
        return towards - back, product * rate, total, None

    return centred * (scale * rate) + offset, gradient


_normalised: Any = tf.custom_gradient(_kernel)


def _moments(x: Any) -> tuple[Any, Any, Any]:
    count = tf.cast(tf.shape(x)[0], x.dtype)
    mean = _column_sums(x) / count
    centred = x - mean
    return mean, centred, _column_sums(centred * centred) / count


def _column_sums(x: Any) -> Any:
    return tf.linalg.matmul(tf.ones([1, tf.shape(x)[0]], x.dtype), x)[0]


def layer_call(layer: keras.layers.BatchNormalization, inputs: Any) -> Any:
    """What the layer does in training, moving statistics included, by the kernel."""
    x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    scale = keras.ops.cast(layer.gamma, x.dtype) if layer.scale else None
    offset = keras.ops.cast(layer.beta, x.dtype) if layer.center else None
    y, mean, variance = batch_normalised(x, scale, offset, epsilon=layer.epsilon)
    for moving, batch in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        old = keras.ops.cast(moving, x.dtype)
        moving.assign(old * layer.momentum + batch * (1.0 - layer.momentum))
    return keras.ops.cast(y, layer.compute_dtype)


def renormalises(layer: keras.layers.BatchNormalization) -> bool:
    """True if the layer is batch renormalisation, which Keras 3.12 does not have."""
    return bool(getattr(layer, "renorm", False))


def fits(layer: keras.layers.BatchNormalization, inputs: Any, mask: Any) -> bool:
    """True if `layer_call` does what the layer itself would, batch statistics on."""
    return (
        mask is None
        and not renormalises(layer)
        and not layer.synchronized
        and layer.trainable
        and layer.axis in (-1, len(inputs.shape) - 1)
        and inputs.shape[-1] is not None
    )
