"""Functions that TensorFlow runs as they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import tensorflow as tf

F = TypeVar("F", bound=Callable[..., Any])


def as_written(function: F) -> F:
    """Keeps autograph away from a function and from what it calls, models and losses.

    Inside somebody's `tf.function`, autograph would rewrite the source of the whole
    library, which takes longer than tracing it, and there is nothing to rewrite. Keras
    keeps it away in `fit` likewise, so that a model means the same in both. What is a
    `tf.function` itself decides for itself.

    >>> @as_written
    ... def sign(x):
    ...     return tf.sign(x)
    >>> int(tf.function(sign)(tf.constant(-3)))
    -1
    """
    return cast(F, tf.autograph.experimental.do_not_convert(function))
