"""Keras's masks, kept where the outputs of a TensorFlow function lose them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def taken(predictions: Any) -> dict[int, Any]:
    """The mask of each output that has one, by the place of the output in its nest.

    Keras attaches a mask to a tensor as an attribute. A `tf.function`, a loop and a
    task map return new tensors without it, so they must also return the masks.

    Args:
        predictions: nest of tensors, the output of a model.

    >>> output = put_back(tf.zeros([1, 2]), {0: tf.constant([[True, False]])})
    >>> taken(output)[0].numpy().tolist()
    [[True, False]]
    """
    masks = {
        place: getattr(leaf, "_keras_mask", None)
        for place, leaf in enumerate(tf.nest.flatten(predictions))
    }
    return {place: mask for place, mask in masks.items() if mask is not None}


def put_back(predictions: Any, masks: dict[int, Any]) -> Any:
    """The same predictions with the masks that `taken` found.

    Args:
        predictions: nest of tensors of the same structure.
        masks: dict of bool tensors.
    """
    leaves = tf.nest.flatten(predictions)
    for place, mask in masks.items():
        leaves[place]._keras_mask = mask
    return predictions


def together(first: Any, second: Any) -> Any:
    """The product of two masks, of the rank of the larger one and the first's type.

    Args:
        first: tensor `[examples, ...]`.
        second: tensor `[examples, ...]`, with more or fewer trailing axes.

    >>> together(tf.constant([1.0, 0.5]), tf.constant([[True, False]] * 2)).numpy()
    array([[1. , 0. ],
           [0.5, 0. ]], dtype=float32)
    """
    rank = max(first.shape.rank, second.shape.rank)
    return expanded(first, rank) * tf.cast(expanded(second, rank), first.dtype)


def expanded(mask: Any, rank: int) -> Any:
    """The mask with trailing axes of length one, up to `rank` axes."""
    for _ in range(rank - mask.shape.rank):
        mask = tf.expand_dims(mask, -1)
    return mask


def reduced(mask: Any, rank: int) -> Any:
    """The mask with at most `rank` axes: the largest entry along the others.

    A sequence counts if one of its positions does.
    """
    surplus = list(range(rank, mask.shape.rank))
    if not surplus:
        return mask
    if mask.dtype == tf.bool:
        return tf.reduce_any(mask, axis=surplus)
    return tf.reduce_max(mask, axis=surplus)
