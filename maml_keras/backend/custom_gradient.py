"""Functions that bring their own derivative along, in a form that can be saved."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_nested_ones_plain = contextvars.ContextVar("_nested_ones_plain", default=False)


def with_derivative(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as `tf.custom_gradient` has it, but where a SavedModel is written.

    Args:
        function: takes tensors, returns its outputs and their gradient function.

    Returns:
        A function of the same tensors that returns the outputs.

    >>> square = with_derivative(lambda x: (x * x, lambda upstream: upstream * 2 * x))
    >>> float(square(tf.constant(3.0)))
    9.0
    """
    derived: Any = tf.custom_gradient(function)

    def call(*arguments: Any) -> Any:
        if _nested_ones_plain.get():
            return function(*arguments)[0]
        return derived(*arguments)

    return call


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """A scope in which the functions have the derivative that TensorFlow finds.

    `tf.saved_model.save` traces the gradient of every such function once more and
    saves it, but not a gradient of that gradient: whoever loads it is warned of each.
    What is traced in the scope has none.
    """
    token = _nested_ones_plain.set(True)
    try:
        yield
    finally:
        _nested_ones_plain.reset(token)
