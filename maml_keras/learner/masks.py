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
