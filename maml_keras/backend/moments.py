"""Batch moments with a right second derivative."""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride


def exact_moments() -> contextlib.AbstractContextManager[None]:
    """A scope in which `tf.nn.moments` is differentiable to every order.

    `mean = E[x]`, `variance = E[(x - mean)^2]`, both differentiable in `x`.

    TensorFlow computes the variance with `stop_gradient(mean)`. The first derivative
    stays right, because `d variance / d mean = -2 E[x - mean] = 0`. But the derivative
    of this zero is not zero, so second derivatives are wrong, and so is the
    meta-gradient of any network with batch, layer or group normalisation.

    `keras.ops.moments` and Keras's normalisation layers call `tf.nn.moments`. So they
    are exact inside the scope, and so is your own layer that calls either function.

    >>> x = tf.constant([1.0, 2.0, 4.0])
    >>> with exact_moments():
    ...     mean, variance = tf.nn.moments(x, [0])
    >>> round(float(variance), 4)
    1.5556
    """
    return _override.scope()


def _moments(
    value: None,
    original: Any,
    x: Any,
    axes: Any,
    shift: Any = None,
    keepdims: bool = False,
    name: str | None = None,
) -> tuple[Any, Any]:
    x = tf.convert_to_tensor(x)
    # Half precision is too coarse for the sums, so widen it, as TensorFlow does.
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(wide - mean), axes, keepdims=keepdims)
    if not keepdims:
        mean = tf.squeeze(mean, axes)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


_override = ScopedOverride(tf.nn, "moments", _moments)
