"""Batch normalisation with its derivative written out."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.custom_gradient import with_derivative


def batch_normalised(
    x: Any, scale: Any, offset: Any, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """`x` normalised over all axes but the last by its own batch's statistics.

    `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, differentiable to
    every order in all of `x`, `scale` and `offset`.

    The derivative of the plain formula passes over `x` about twenty times, because it
    goes through mean and variance apart. Their sum has a short form, in which the
    means are products with a row of `1 / n`, and half of the passes are gone; so has
    the derivative of that, which a meta-gradient needs once an inner step. (The
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
    # Statistics apart from the kernel, so that these too have their derivative; where
    # nobody asks for it, the graph optimiser merges them with the kernel's own.
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
    """Of rows `[n, channels]`: differentiable by formulas, twice."""

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
    """The kernel's derivative, as a function that brings its own derivative along.

    `centred` and `rate` are those of `x`, taken from the pass before: what depends on
    `x` through them is in the formulas. A third derivative is that of the second, and
    goes through them as TensorFlow finds it.
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
            # L / n = s w - s rate^2 p q + b rate p + e mean(dy), where q and w are the
            # covariances of what arrives with x and with dy; b and e arrive for scale
            # and offset.
            mean = tf.linalg.matmul(averaging, towards)
            along = tf.linalg.matmul(averaging, towards * centred)
            rest, back = towards - mean, pull * along
            # Not the mean of products less the product of means: where dy is constant,
            # as that of a mean is, the difference would be of rounding errors.
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
    """Means `[1, channels]`, `x` without them, and variances `[1, channels]`."""
    mean = tf.linalg.matmul(averaging, x)
    centred = x - mean
    return mean, centred, tf.linalg.matmul(averaging, centred * centred)


def _averaging(x: Any) -> Any:
    """The row `[1, rows]` whose product with `x` is its mean.

    Made once for all sums of a pass: each operation is traced in every inner step, and
    again in each derivative of it.
    """
    if x.shape[0] is None:
        return tf.fill([1, tf.shape(x)[0]], 1 / _count(x))
    return tf.fill([1, x.shape[0]], tf.constant(1 / max(x.shape[0], 1), x.dtype))


def _count(x: Any) -> Any:
    """How many rows, in the type of `x`."""
    if x.shape[0] is None:
        return tf.cast(tf.shape(x)[0], x.dtype)
    return tf.constant(x.shape[0], x.dtype)


def layer_call(
    layer: keras.layers.BatchNormalization, inputs: Any, *, moving: bool = True
) -> Any:
    """What the layer does in training, by the kernel.

    Args:
        layer: a layer that `fits`.
        inputs: tensor `[..., channels]`.
        moving: bool, whether its moving statistics move along, as Keras has it.
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
