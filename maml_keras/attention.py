"""Attention as plain batched products, with the heads moved to the front once."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.scoped_override import ScopedOverride


def heads_first() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.MultiHeadAttention` transposes each input once.

    Keras contracts `[batch, time, heads, size]` by einsums, each of which transposes
    its operands anew, and so does every einsum of their first and second derivatives.
    Here queries, keys and values are transposed once, and all products and their
    derivatives take them as they are. Layers with dropout on their scores, whose scores
    are asked for, or with more than one attention axis run as Keras has them.
    """
    return _override.scope()


def attended(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float,
    mask: Any = None,
    causal: bool = False,
) -> Any:
    """Scaled dot-product attention.

    `softmax(scale * q k^T) v`, for each head

    Args:
        query: float tensor `[batch, queries, heads, size]`.
        key: float tensor `[batch, keys, heads, size]`.
        value: float tensor `[batch, keys, heads, values]`.
        scale: float.
        mask: None, or bool tensor `[batch, queries, keys]` or `[batch, heads, queries,
            keys]`, True where attention is allowed.
        causal: bool, whether a query sees no later key.

    Returns:
        Float tensor `[batch, queries, heads, values]`.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762

    >>> q, k = tf.ones([1, 1, 1, 2]), tf.zeros([1, 2, 1, 2])
    >>> attended(q, k, tf.constant([1.0, 3.0], shape=[1, 2, 1, 1]), scale=1.0).numpy()
    array([[[[2.]]]], dtype=float32)
    """
    query, key, value = (tf.transpose(t, [0, 2, 1, 3]) for t in (query, key, value))
    scores = tf.linalg.matmul(query * tf.cast(scale, query.dtype), key, transpose_b=True)
    # As Keras has it: in float32 at least, and forbidden scores far below all others.
    wide = tf.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if causal:
        lower = tf.linalg.band_part(tf.ones(tf.shape(wide)[-2:], tf.bool), -1, 0)
        mask = lower if mask is None else tf.logical_and(_to_heads(mask), lower)
    if mask is not None:
        lowest = tf.constant(-0.7 * wide.dtype.max, wide.dtype)
        wide = tf.where(_to_heads(mask), wide, lowest)
    weights = tf.cast(tf.nn.softmax(wide), value.dtype)
    return tf.transpose(tf.linalg.matmul(weights, value), [0, 2, 1, 3])


def _to_heads(mask: Any) -> Any:
    mask = tf.cast(mask, tf.bool)
    return mask[:, None] if mask.shape.rank == 3 else mask


def _compute_attention(
    value: None,
    original: Any,
    layer: keras.layers.MultiHeadAttention,
    query: Any,
    key: Any,
    values: Any,
    attention_mask: Any = None,
    training: bool | None = None,
    return_attention_scores: bool = False,
    **options: Any,
) -> Any:
    rank = len(query.shape)
    if rank != 4 or layer._dropout > 0.0 or return_attention_scores:
        return original(
            layer,
            query,
            key,
            values,
            attention_mask,
            training,
            return_attention_scores,
            **options,
        )
    mixed = attended(
        query,
        key,
        values,
        scale=layer._inverse_sqrt_key_dim,
        mask=attention_mask,
        causal=options.get("use_causal_mask", False),
    )
    return mixed, None


_override = ScopedOverride(
    keras.layers.MultiHeadAttention, "_compute_attention", _compute_attention
)
