"""Random orders of rows, for many tasks at once."""

from typing import Any

import tensorflow as tf


def ranking(seed: Any, shape: list[Any], k: int, sizes: Any = None) -> Any:
    """`k` different numbers below `shape[-1]`, or below `sizes`, in random order.

    Args:
        seed: int tensor `[2]`.
        shape: the shape of the candidates.
        k: int.
        sizes: None, or an int tensor of shape `shape[:-1]`. Places beyond a size hold
            any numbers.

    Returns:
        int32 tensor `[..., k]`.
    """
    exists = None if sizes is None else tf.range(shape[-1]) < sizes[..., None]
    return ranking_of(seed, shape, k, exists)


def ranking_of(seed: Any, shape: list[Any], k: int, exists: Any) -> Any:
    """`k` different places in random order, those that exist before the others.

    Args:
        seed: int tensor `[2]`.
        shape: the shape of the candidates.
        k: int.
        exists: None, or a bool tensor that broadcasts to `shape`.
    """
    # The k largest of independent keys are a uniform ordered sample. The keys are int32
    # of full range: float32 keys have 2**23 values only, and ties favour low numbers.
    keys = tf.random.stateless_uniform(shape, seed, None, None, tf.int32)
    if exists is not None:
        # If a key ties with a masked key, `top_k` takes the lower number. For `sizes`
        # that is the unmasked one; else the lowest key is lifted by one.
        keys = tf.where(exists, tf.maximum(keys, tf.int32.min + 1), tf.int32.min)
    return tf.math.top_k(keys, k).indices


def shuffled(seed: Any, rows: Any) -> tuple[Any, Any]:
    """Shuffles rows `[count, ways, k]` into rows and labels `[count, ways * k]`."""
    count, ways, k = rows.shape
    order = ranking(seed, [count, ways * k], ways * k)
    flat = tf.reshape(rows, [count, ways * k])
    return tf.gather(flat, order, batch_dims=1), order // k


def packed(seed: Any, rows: Any, exists: Any, length: int) -> tuple[Any, Any, Any]:
    """Shuffles the rows that exist to the front, and pads them.

    Args:
        seed: int tensor `[2]`.
        rows: int tensor `[count, ways, k]`.
        exists: bool tensor like `rows`; at least one of a task.
        length: int, at least as many as exist in any task.

    Returns:
        Rows and labels `[count, length]`, and float32 weights `[count, length]`: 1, or
        0 for padding, which repeats the first row.
    """
    count, ways, k = rows.shape
    flat, there = (tf.reshape(t, [count, ways * k]) for t in (rows, exists))
    order = ranking_of(seed, [count, ways * k], length, there)
    there = tf.gather(there, order, batch_dims=1)
    order = tf.where(there, order, order[:, :1])
    weight = tf.cast(there, tf.float32)
    return tf.gather(flat, order, batch_dims=1), order // k, weight
