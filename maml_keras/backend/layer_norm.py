"""Layer normalisation with a hand-written derivative."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.custom_gradient import with_derivative
from maml_keras.backend.overrides import ScopedOverride


def written_out() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.LayerNormalization` runs `layer_normalised`.

    Layers that normalise over other axes than the last, or use `rms_scaling`, keep
    Keras's code.
    """
    return _override.scope()


def layer_normalised(x: Any, scale: Any, offset: Any, *, epsilon: float) -> Any:
    """Normalises `x` over its last axis by its own mean and variance.

    `y = (x - mean) / sqrt(variance + epsilon) * scale + offset`, differentiable to
    every order in `x`, `scale` and `offset`.

    The derivative of the plain formula goes through mean and variance separately, and
    the second derivative through both parts again. The sum of the parts has a short
    form, which is written out here.

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
    y, _ = _normalised(rows, tf.constant(epsilon, x.dtype))
    if scale is not None:
        y = _scaled(y, scale)
    if offset is not None:
        y = tf.nn.bias_add(y, offset)
    return tf.reshape(y, tf.shape(x))


def _kernel(x: Any, epsilon: Any) -> Any:
    centred = x - _row_means(x)
    rate = tf.math.rsqrt(_row_means(centred * centred) + epsilon)

    def gradient(d_y: Any, d_rate: Any) -> Any:
        # Call `_normalised` again instead of using the values above, so that a second
        # derivative uses the short form, too. The graph optimiser merges both calls.
        y, rate = _normalised(x, epsilon)
        return _pulled_back(d_y, d_rate, y, rate), None

    return (centred * rate, rate), gradient


def _pull_back(d_y: Any, d_rate: Any, y: Any, rate: Any) -> Any:
    # dx = rate * (dy - mean(dy) - y * (mean(dy * y) + d_rate * rate / n))
    along = _row_means(d_y * y) + d_rate * (rate / _features(y))
    d_x = rate * (d_y - _row_means(d_y) - y * along)

    def gradient(u: Any) -> Any:
        u_y = _row_means(u * y)
        to_d_y = rate * (u - _row_means(u) - y * u_y)
        to_d_rate = -rate * rate * u_y
        to_y = -rate * (u * along + d_y * u_y)
        to_rate = _features(y) * _row_means(u * d_x) / rate - rate * d_rate * u_y
        return to_d_y, to_d_rate, to_y, to_rate

    return d_x, gradient


def _product(x: Any, scale: Any) -> Any:
    def gradient(upstream: Any) -> Any:
        return _scaled(upstream, scale), _column_products(upstream, x)

    return x * scale, gradient


def _products(a: Any, b: Any) -> Any:
    """Sums of `a * b` over rows, as a product with a row of ones."""

    def gradient(upstream: Any) -> Any:
        return b * upstream, a * upstream

    ones = tf.ones([1, tf.shape(a)[0]], a.dtype)
    return tf.linalg.matmul(ones, a * b)[0], gradient


_normalised = with_derivative(_kernel)
_pulled_back = with_derivative(_pull_back)
_scaled = with_derivative(_product)
_column_products = with_derivative(_products)


def _row_means(x: Any) -> Any:
    return tf.reduce_mean(x, -1, keepdims=True)


def _features(x: Any) -> Any:
    return tf.cast(tf.shape(x)[-1], x.dtype)


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
    """True if `layer_normalised` gives the result of the layer."""
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
