"""Functions with hand-written derivatives that a SavedModel can hold."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

_saving = contextvars.ContextVar("_saving", default=False)


def with_derivative(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `tf.custom_gradient`, but with a plain derivative in the scope `saving`.

    Args:
        function: takes tensors, returns the outputs and their gradient function.

    Returns:
        A function of the same tensors that returns only the outputs.

    >>> square = with_derivative(lambda x: (x * x, lambda upstream: upstream * 2 * x))
    >>> float(square(tf.constant(3.0)))
    9.0
    """
    derived: Any = tf.custom_gradient(function)

    def call(*arguments: Any) -> Any:
        if _saving.get():
            return function(*arguments)[0]
        return derived(*arguments)

    return call


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """A scope in which functions of `with_derivative` use TensorFlow's derivative.

    `tf.saved_model.save` traces and saves the gradient of each custom gradient, but
    not the gradient of this gradient, so loading would warn of each. Functions that
    are traced in this scope have no custom gradient.
    """
    token = _saving.set(True)
    try:
        yield
    finally:
        _saving.reset(token)
