"""Errors of a data pipeline as Python raised them, without TensorFlow's wrapping."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

# How TensorFlow reports an error of a Python function inside a pipeline.
WRAPPED = re.compile(r"\bValueError: (.*?)\s*Traceback \(most recent call last\)", re.S)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Raises the `ValueError` of a pipeline in place of TensorFlow's error.

    Examples that lie on disk are read by Python functions of the pipeline. TensorFlow
    wraps their errors in names of its graph and in a traceback, in which the sentence
    about the damaged file is hard to find.

    Raises:
        ValueError: the error of the Python function, alone.

    >>> def read(row):
    ...     raise ValueError("7.png cannot be read.")
    >>> rows = tf.data.Dataset.range(1).map(
    ...     lambda row: tf.numpy_function(read, [row], tf.float32)
    ... )
    >>> with plainly():
    ...     list(rows)
    Traceback (most recent call last):
    ValueError: 7.png cannot be read.
    """
    try:
        yield
    except tf.errors.OpError as error:
        wrapped = WRAPPED.search(error.message or "")
        if wrapped is None:
            raise
        raise ValueError(wrapped[1]) from None
