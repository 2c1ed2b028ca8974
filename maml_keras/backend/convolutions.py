"""Convolutions and max-pooling as slices and one product."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from maml_keras.backend.windows import Axis, entries, overlaid, padded, windows


def convolved(x: Any, kernel: Any, axes: Sequence[Axis]) -> Any:
    """A convolution as one product, or one product for each group of channels.

    Args:
        x: float tensor `[examples, *lengths, channels]`.
        kernel: float tensor `[*sizes, channels / groups, filters]`.
        axes: the windows of each axis between the first and the last.

    Returns:
        Float tensor `[examples, *counts, filters]`.

    >>> x = tf.reshape([1.0, 2.0, 4.0], [1, 3, 1])
    >>> convolved(x, tf.ones([2, 1, 1]), [Axis(3, 2)]).numpy().ravel()
    array([3., 6.], dtype=float32)
    """
    counts = [axis.number for axis in axes]
    examples, filters = _examples(x), kernel.shape[-1]
    rows, taps = examples * math.prod(counts), math.prod(kernel.shape[:-2])
    groups, channels = x.shape[-1] // kernel.shape[-2], kernel.shape[-2]
    taken = windows(padded(x, axes), axes)
    if groups == 1:
        taken = tf.reshape(taken, [rows, taps * channels])
        y = tf.linalg.matmul(taken, tf.reshape(kernel, [taps * channels, filters]))
    else:
        taken = tf.reshape(taken, [rows, taps, groups, channels])
        taken = tf.transpose(taken, [2, 0, 1, 3])
        taken = tf.reshape(taken, [groups, rows, taps * channels])
        kernel = tf.reshape(kernel, [taps * channels, groups, filters // groups])
        y = tf.linalg.matmul(taken, tf.transpose(kernel, [1, 0, 2]))
        y = tf.transpose(y, [1, 0, 2])
    return tf.reshape(y, [examples, *counts, filters])


def transposed(x: Any, kernel: Any, axes: Sequence[Axis]) -> Any:
    """The transpose of `convolved` as one product, whose parts are then added up.

    Args:
        x: float tensor `[examples, *counts, channels]`.
        kernel: float tensor `[*sizes, filters, channels]`.
        axes: the windows of each axis of the output.

    Returns:
        Float tensor `[examples, *lengths, filters]`.

    >>> transposed(tf.ones([1, 2, 1]), tf.ones([2, 1, 1]), [Axis(3, 2)]).numpy().ravel()
    array([1., 2., 1.], dtype=float32)
    """
    examples, counts, channels = _examples(x), x.shape[1:-1], x.shape[-1]
    *sizes, filters, _ = kernel.shape
    rows = tf.reshape(x, [examples * math.prod(counts), channels])
    by_filter = tf.reshape(kernel, [math.prod(sizes) * filters, channels])
    parts = tf.linalg.matmul(rows, by_filter, transpose_b=True)
    parts = tf.reshape(parts, [examples, *counts, *sizes, filters])
    inside = [slice(axis.before, axis.before + axis.length) for axis in axes]
    return overlaid(parts, axes)[(slice(None), *inside)]


def max_pooled(x: Any, axes: Sequence[Axis]) -> Any:
    """The maximum of each window; of equal entries the first has the derivative.

    Args:
        x: float tensor `[examples, *lengths, channels]`.
        axes: the windows of each axis between the first and the last.

    Returns:
        Float tensor `[examples, *counts, channels]`.

    >>> x = tf.reshape([1.0, 4.0, 2.0], [1, 3, 1])
    >>> max_pooled(x, [Axis(3, 2)]).numpy().ravel()
    array([4., 4.], dtype=float32)
    """
    x = padded(x, axes, value=-math.inf)
    for position in range(len(axes), 0, -1):
        x = functools.reduce(tf.maximum, entries(x, axes[position - 1], position))
    return x


def _examples(x: Any) -> Any:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
