"""A bool that a graph writes and Python reads."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Flag:
    """One bool, true at first. A flag is not a weight, so no file holds it.

    >>> flag = Flag()
    >>> flag.assign(tf.constant(False))
    >>> bool(flag.read())
    False
    """

    def __init__(self) -> None:
        self._value = tf.Variable(True, trainable=False, name="flag")

    def assign(self, value: Any) -> None:
        """Writes a scalar bool tensor, in the graph that is open."""
        self._value.assign(value)

    def read(self) -> Any:
        """The value, a tensor."""
        return self._value.read_value()
