"""Batch normalisation with a hand-written derivative."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.custom_gradient import with_derivative


def batch_normalised(
    x: Any, scale: Any, offset: Any, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """Normalises `x` over all axes but the last by the statistics of its own batch.

    `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, differentiable to
    every order in `x`, `scale` and `offset`.

    The derivative of the plain formula passes over `x` about twenty times, because it
    goes through mean and variance separately. The sum of both parts has a short form
    with half of the passes, in which means are products with a row of `1 / n`. The
    derivative of this form, which a meta-gradient needs once per inner step, has a
    short form, too. (TensorFlow's fused kernel is not faster in a meta-step: it writes
    past the cache, and the next convolution waits for it.)

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
    # The statistics are computed outside the kernel, so that they have a derivative,
    # too. If it is not needed, the graph optimiser merges both computations.
    return _by_batch(x, scale, offset, epsilon), *_statistics(x)


def _by_batch(x: Any, scale: Any, offset: Any, epsilon: float) -> Any:
    channels = x.shape[-1]
    rows = tf.reshape(x, [-1, channels])
    if scale is None:
        scale = tf.ones([channels], x.dtype)
    if offset is None:
        offset = tf.zeros([channels], x.dtype)
    y = _kernel(epsilon)(rows, scale, offset)
    return tf.reshape(y, x.shape if x.shape.is_fully_defined() else tf.shape(x))


def _statistics(x: Any) -> tuple[Any, Any]:
    rows = tf.reshape(x, [-1, x.shape[-1]])
    mean, _, variance = _moments(rows, _averaging(rows))
    return tf.reshape(mean, x.shape[-1:]), tf.reshape(variance, x.shape[-1:])


def _kernel(epsilon: float) -> Any:
    """The kernel for rows `[n, channels]`, with formulas for two derivatives."""

    def normalised(x: Any, scale: Any, offset: Any) -> Any:
        averaging = _averaging(x)
        _, centred, variance = _moments(x, averaging)
        rate = tf.math.rsqrt(variance + epsilon)
        derivative = with_derivative(_derivative(averaging, centred, rate))

        def gradient(upstream: Any) -> Any:
            return derivative(upstream, x, scale)

        return centred * (scale * rate) + offset, gradient

    return with_derivative(normalised)


def _derivative(averaging: Any, centred: Any, rate: Any) -> Any:
    """The derivative of the kernel, a function with its own hand-written derivative.

    `centred` and `rate` come from the forward pass; the formulas contain their
    dependence on `x`. TensorFlow finds a third derivative by differentiating the
    formulas of the second.
    """
    count, per_channel = _count(centred), centred.shape[-1:]

    def first(upstream: Any, x: Any, scale: Any) -> Any:
        # With s = scale * rate and p = mean(dy * (x - mean)):
        # dx = s * (dy - mean(dy)) - (x - mean) * s * rate^2 * p.
        factor, squared, counted = scale * rate, rate * rate, count * rate
        total = tf.linalg.matmul(averaging, upstream)
        product = tf.linalg.matmul(averaging, upstream * centred)
        pull = squared * product
        shrunk = factor * pull

        def second(towards: Any, of_scale: Any, of_offset: Any) -> Any:
            # L / n = s w - s rate^2 p q + b rate p + e mean(dy). Here q and w are the
            # covariances of `towards` with x and with dy; b and e are `of_scale` and
            # `of_offset`.
            mean = tf.linalg.matmul(averaging, towards)
            along = tf.linalg.matmul(averaging, towards * centred)
            rest, back = towards - mean, pull * along
            # Centre first: where dy is constant, as for a mean, the mean of products
            # minus the product of means would hold nothing but rounding errors.
            both = tf.linalg.matmul(averaging, rest * upstream)
            slope = of_scale * rate - factor * squared * along
            bent = scale * (both - 3.0 * back) + of_scale * product
            bent = rate * squared * bent
            return (
                factor * rest + (centred * slope + of_offset),
                slope * (upstream - total) - shrunk * rest - centred * bent,
                tf.reshape(counted * (both - back), per_channel),
            )

        found = (
            factor * (upstream - total) - centred * shrunk,
            tf.reshape(product * counted, per_channel),
            tf.reshape(total * count, per_channel),
        )
        return found, second

    return first


def _moments(x: Any, averaging: Any) -> tuple[Any, Any, Any]:
    """Means `[1, channels]`, `x` minus the means, and variances `[1, channels]`."""
    mean = tf.linalg.matmul(averaging, x)
    centred = x - mean
    return mean, centred, tf.linalg.matmul(averaging, centred * centred)


def _averaging(x: Any) -> Any:
    """The row `[1, rows]` whose product with `x` is the mean of `x`.

    A pass makes this row once for all sums, because each operation is traced in each
    inner step and again in each derivative.
    """
    if x.shape[0] is None:
        return tf.fill([1, tf.shape(x)[0]], 1 / _count(x))
    return tf.fill([1, x.shape[0]], tf.constant(1 / max(x.shape[0], 1), x.dtype))


def _count(x: Any) -> Any:
    """The number of rows, in the type of `x`."""
    if x.shape[0] is None:
        return tf.cast(tf.shape(x)[0], x.dtype)
    return tf.constant(x.shape[0], x.dtype)


def layer_call(
    layer: keras.layers.BatchNormalization, inputs: Any, *, moving: bool = True
) -> Any:
    """The call of the layer in training, computed by the kernel.

    Args:
        layer: a layer for which `fits` is True.
        inputs: tensor `[..., channels]`.
        moving: bool, whether to update the layer's moving statistics, as Keras does.
    """
    x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    scale = keras.ops.cast(layer.gamma, x.dtype) if layer.scale else None
    offset = keras.ops.cast(layer.beta, x.dtype) if layer.center else None
    if moving:
        for own, batch in zip(
            (layer.moving_mean, layer.moving_variance), _statistics(x)
        ):
            old = keras.ops.cast(own, x.dtype)
            own.assign(old * layer.momentum + batch * (1.0 - layer.momentum))
    y = _by_batch(x, scale, offset, layer.epsilon)
    return keras.ops.cast(y, layer.compute_dtype)


def masked_moments(x: Any, mask: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel over the positions that a mask keeps.

    Args:
        x: float tensor `[..., channels]`.
        mask: bool tensor, `[...]` without the last axis, or broadcasting to it.

    Returns:
        `mean` and `variance`, `[channels]`; zeros if nothing is kept.

    >>> mean, variance = masked_moments(
    ...     tf.constant([[1.0], [3.0], [9.0]]), tf.constant([True, True, False]))
    >>> float(mean[0]), float(variance[0])
    (2.0, 1.0)
    """
    kept = tf.cast(mask, x.dtype)[..., None] * tf.ones_like(x)
    axes = list(range(len(x.shape) - 1))
    count = tf.reduce_sum(kept, axes)
    mean = tf.math.divide_no_nan(tf.reduce_sum(x * kept, axes), count)
    squares = tf.reduce_sum(tf.square(x - mean) * kept, axes)
    return mean, tf.math.divide_no_nan(squares, count)


def renormalises(layer: keras.layers.BatchNormalization) -> bool:
    """True for batch renormalisation, which not every version of Keras has."""
    return bool(getattr(layer, "renorm", False))


def fits(layer: keras.layers.BatchNormalization, inputs: Any, mask: Any) -> bool:
    """True if `layer_call` gives the result of the layer with batch statistics."""
    return (
        mask is None
        and not renormalises(layer)
        and not layer.synchronized
        and layer.trainable
        and layer.axis in (-1, len(inputs.shape) - 1)
        and inputs.shape[-1] is not None
    )
