"""Whether all numbers are finite, in few operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def all_finite(tensors: Sequence[Any]) -> Any:
    """True if no tensor holds NaN or infinity; integers always are finite.

    Args:
        tensors: list of tensors, perhaps of several float types.

    Returns:
        Scalar bool tensor.

    >>> bool(all_finite([tf.ones([2]), tf.constant([3])]))
    True
    >>> bool(all_finite([tf.ones([2]), tf.constant([1.0, float("inf")])]))
    False
    """
    floats = [t for t in map(tf.convert_to_tensor, tensors) if t.dtype.is_floating]
    if not floats:
        return tf.constant(True)
    return tf.reduce_all(
        tf.stack([tf.reduce_all(tf.math.is_finite(t)) for t in floats])
    )
