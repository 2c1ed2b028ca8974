"""Shapes and types of one task's targets, as training saw them, as plain data."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf


def described(targets: Any) -> str:
    """The shape of an example's targets and their type, as text for a configuration.

    Args:
        targets: nest of tensors `[tasks, examples, ...]`.

    >>> described(tf.zeros([2, 5, 1]))
    '{"shape": [1], "dtype": "float32"}'
    """
    return json.dumps(_plain(targets))


def specs(description: str) -> Any:
    """The nest of `tf.TensorSpec` `[examples, ...]` that `described` wrote.

    >>> specs('{"shape": [1], "dtype": "float32"}')
    TensorSpec(shape=(None, 1), dtype=tf.float32, name=None)
    """
    return _rebuilt(json.loads(description))


def _plain(nest: Any) -> Any:
    if isinstance(nest, dict):
        return {"dict": {key: _plain(value) for key, value in nest.items()}}
    if isinstance(nest, (list, tuple)):
        return {"list": [_plain(value) for value in nest]}
    return {"shape": nest.shape[2:].as_list(), "dtype": nest.dtype.name}


def _rebuilt(plain: dict[str, Any]) -> Any:
    if "dict" in plain:
        return {key: _rebuilt(value) for key, value in plain["dict"].items()}
    if "list" in plain:
        return [_rebuilt(value) for value in plain["list"]]
    # An export takes 32 bits, as the rest of its functions.
    dtype = tf.as_dtype(plain["dtype"])
    short = {tf.float64: tf.float32, tf.int64: tf.int32}.get(dtype, dtype)
    return tf.TensorSpec([None, *plain["shape"]], short)
