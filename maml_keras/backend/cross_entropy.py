"""Cross-entropy with a right second derivative in its labels."""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride


def exact_cross_entropy() -> contextlib.AbstractContextManager[None]:
    """A scope in which cross-entropy with soft labels is differentiable to every order.

    `tf.nn.softmax_cross_entropy_with_logits` is `-sum labels log softmax(logits)`.
    TensorFlow's second derivative silently drops `d^2 / d logits d labels`. This term
    matters if the labels depend on weights, as in an entropy or a distillation.
    `keras.losses.CategoricalCrossentropy(from_logits=True)` calls this function.

    >>> with exact_cross_entropy():
    ...     value = tf.nn.softmax_cross_entropy_with_logits([[0.5, 0.5]], [[0.0, 0.0]])
    >>> round(float(value[0]), 4)
    0.6931
    """
    return _override.scope()


def _cross_entropy(
    _: None, original: Any, labels: Any, logits: Any, axis: int = -1, name: Any = None
) -> Any:
    logits = tf.convert_to_tensor(logits)
    # Half precision is too coarse for the sums, so widen it, as TensorFlow does.
    wide = tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits
    logarithms = tf.nn.log_softmax(wide, axis)
    values = -tf.reduce_sum(tf.cast(labels, wide.dtype) * logarithms, axis)
    return tf.cast(values, logits.dtype)


_override = ScopedOverride(tf.nn, "softmax_cross_entropy_with_logits", _cross_entropy)
