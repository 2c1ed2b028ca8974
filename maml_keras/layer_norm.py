"""Layer normalisation with its derivative written out."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.scoped_override import ScopedOverride


def written_out() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.LayerNormalization` runs `layer_normalised`.

    Layers that normalise over more than the last axis, or scale by the variance alone,
    run as Keras has them.
    """
    return _override.scope()


def layer_normalised(x: Any, scale: Any, offset: Any, *, epsilon: float) -> Any:
    """`x` normalised over its last axis by its own mean and variance.

    `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, differentiable to
    every order in all of `x`, `scale` and `offset`.

    The derivative of the plain formula goes through mean and variance apart, and its
    own derivative through all of that; their sum has a short form.

    Args:
        x: float tensor `[..., features]`.
        scale: None or `[features]`.
        offset: None or `[features]`.
        epsilon: float, added to the variance.

    Returns:
        `y` like `x`.

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450

    >>> layer_normalised(tf.constant([[1.0, 3.0]]), None, None, epsilon=0.0).numpy()
    array([[-1.,  1.]], dtype=float32)
    """
    features = x.shape[-1]
    rows = tf.reshape(x, [-1, features])
    y = _normalised(rows, tf.constant(epsilon, x.dtype))
    if scale is not None:
        y = _scaled(y, scale)
    if offset is not None:
        y = tf.nn.bias_add(y, offset)
    return tf.reshape(y, tf.shape(x))


def _kernel(x: Any, epsilon: Any) -> Any:
    centred = x - _row_means(x)
    rate = tf.math.rsqrt(_row_means(centred * centred) + epsilon)
    y = centred * rate

    def gradient(upstream: Any) -> Any:
        # dx = rate * (dy - mean(dy) - y * mean(dy * y))
        along = y * _row_means(upstream * y)
        return rate * (upstream - _row_means(upstream) - along), None

    return y, gradient


_normalised: Any = tf.custom_gradient(_kernel)


def _row_means(x: Any) -> Any:
    return tf.reduce_mean(x, -1, keepdims=True)


def _product(x: Any, scale: Any) -> Any:
    def gradient(upstream: Any) -> Any:
        # Column sums as a product with a row of ones.
        ones = tf.ones([1, tf.shape(x)[0]], x.dtype)
        return upstream * scale, tf.linalg.matmul(ones, upstream * x)[0]

    return x * scale, gradient


_scaled: Any = tf.custom_gradient(_product)


def _call(
    _: None, original: Any, layer: keras.layers.LayerNormalization, /, inputs: Any
) -> Any:
    if not _fits(layer, inputs):
        return original(layer, inputs)
    wide = keras.backend.result_type(inputs.dtype, "float32")
    x, scale, offset = (
        None if t is None else keras.ops.cast(t, wide)
        for t in (inputs, layer.gamma, layer.beta)
    )
    y = layer_normalised(x, scale, offset, epsilon=layer.epsilon)
    return tf.cast(tf.cast(y, inputs.dtype), layer.compute_dtype)


def _fits(layer: Any, inputs: Any) -> bool:
    """True if `layer_normalised` does what the layer itself would."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    return (
        not layer.rms_scaling
        and layer.epsilon is not None
        and isinstance(inputs, tf.Tensor)
        and inputs.dtype.is_floating
        and axes in ([-1], [len(inputs.shape) - 1])
        and inputs.shape[-1] is not None
    )


_override = ScopedOverride(keras.layers.LayerNormalization, "call", _call)
