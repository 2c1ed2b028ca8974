"""Attention as plain batched products, with the heads axis moved to the front once."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride


def heads_first() -> contextlib.AbstractContextManager[None]:
    """A scope in which `keras.layers.MultiHeadAttention` transposes each input once.

    Keras contracts `[batch, time, heads, size]` by einsums. Each einsum, also in first
    and second derivatives, transposes its operands again. In this scope, queries, keys
    and values are transposed once, for all products and derivatives.
    Three kinds of layers keep Keras's own code: layers with dropout on their scores,
    calls that return the scores, and layers with more than one attention axis.
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
        mask: None, or a mask `[batch, heads, queries, keys]`, `[batch, queries, keys]`
            or `[queries, keys]`, True where attention is allowed. If the mask forbids
            all keys of a query, the query gets the mean of all values, as in Keras.
        causal: bool, whether to hide later keys from a query.

    Returns:
        Float tensor `[batch, queries, heads, values]`.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762

    >>> q, k = tf.ones([1, 1, 1, 2]), tf.zeros([1, 2, 1, 2])
    >>> attended(q, k, tf.constant([1.0, 3.0], shape=[1, 2, 1, 1]), scale=1.0).numpy()
    array([[[[2.]]]], dtype=float32)
    """
    query, key, value = (tf.transpose(t, [0, 2, 1, 3]) for t in (query, key, value))
    scores = tf.linalg.matmul(query, key, transpose_b=True)
    # Half precision is too coarse for a softmax, so widen it, as Keras does.
    wide = tf.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    wide *= tf.cast(scale, wide.dtype)
    for allowed in _masks(mask, causal, tf.shape(wide)):
        wide = tf.where(allowed, wide, tf.constant(_FORBIDDEN, wide.dtype))
    weights = tf.cast(tf.nn.softmax(wide), value.dtype)
    return tf.transpose(tf.linalg.matmul(weights, value), [0, 2, 1, 3])


# Far below any score, but finite, for rows in which all scores are forbidden.
_FORBIDDEN = -0.7 * 3.38953e38


def _masks(mask: Any, causal: bool, shape: Any) -> list[Any]:
    masks = []
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        masks.append(mask[:, None] if mask.shape.rank == 3 else mask)
    if causal:
        masks.append(tf.linalg.band_part(tf.ones(shape[-2:], tf.bool), -1, 0))
    return masks


# Keras passes all arguments but `use_causal_mask` by position, but a subclass may pass
# them by name. So no parameter before `query` may have the name `value`.
def _compute_attention(
    _: None,
    original: Any,
    layer: keras.layers.MultiHeadAttention,
    /,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any = None,
    training: bool | None = None,
    return_attention_scores: bool = False,
    **options: Any,
) -> Any:
    rest = dict(options)
    causal = rest.pop("use_causal_mask", False)
    if rest or return_attention_scores or not _fits(layer, query, key, value):
        return original(
            layer,
            query,
            key,
            value,
            attention_mask,
            training,
            return_attention_scores,
            **options,
        )
    scale = layer._inverse_sqrt_key_dim
    mixed = attended(query, key, value, scale=scale, mask=attention_mask, causal=causal)
    return mixed, None


def _fits(layer: Any, query: Any, key: Any, value: Any) -> bool:
    """True if `attended` gives the result of the layer."""
    return (
        layer._dropout == 0.0
        # Keras raises, because TensorFlow has no flash attention.
        and not layer._flash_attention
        and tuple(layer._attention_axes) == (1,)
        and all(isinstance(t, tf.Tensor) for t in (query, key, value))
        and all(len(t.shape) == 4 for t in (query, key, value))
        and query.dtype == key.dtype == value.dtype
        and query.dtype.is_floating
    )


_override = ScopedOverride(
    keras.layers.MultiHeadAttention, "_compute_attention", _compute_attention
)
