"""Keeps TensorFlow's autograph away from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import tensorflow as tf

F = TypeVar("F", bound=Callable[..., Any])


def as_written(function: F) -> F:
    """Keeps autograph away from a function and from the models and losses it calls.

    Inside a user's `tf.function`, autograph would rewrite the source of the whole
    library. This takes longer than tracing, and the library needs no rewriting. `fit`
    of Keras also runs without autograph, so a model means the same in both. A nested
    `tf.function` keeps its own setting.

    >>> @as_written
    ... def sign(x):
    ...     return tf.sign(x)
    >>> int(tf.function(sign)(tf.constant(-3)))
    -1
    """
    return cast(F, tf.autograph.experimental.do_not_convert(function))
