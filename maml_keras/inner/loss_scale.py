"""Scales inner losses so that their gradients stay in the range of float16."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from maml_keras.learner import masks
from maml_keras.learner.learner import Learner

# The largest derivative in a prediction is brought to between 512 and 1024. Float16
# ends at 65,504, so a derivative may grow by a factor of 64 on its way to the weights,
# and shrink by a factor of ten million before it loses digits.
LARGEST = 1024.0
_EXPONENTS = -100.0, 100.0  # Within float32.


def computes_in_float16(learner: Learner) -> bool:
    """Whether a layer of the model computes in float16, as under `mixed_float16`."""
    layers = learner.model._flatten_layers()
    return any(layer.compute_dtype == "float16" for layer in layers)


def widened(predictions: Any) -> Any:
    """Predictions of float16 as float32, with their masks; others unchanged.

    The derivative of a loss in float16 predictions would be of that type, and would
    leave its range before it is scaled.

    Args:
        predictions: nest of tensors.
    """
    leaves = tf.nest.flatten(predictions)
    if not any(leaf.dtype == tf.float16 for leaf in leaves):
        return predictions
    wide = tf.nest.map_structure(
        lambda t: tf.cast(t, tf.float32) if t.dtype == tf.float16 else t, predictions
    )
    return masks.put_back(wide, masks.taken(predictions))


def scale(slopes: list[Any]) -> Any:
    """The power of two that brings the largest slope to between 512 and 1024.

    `S = 2 ^ floor(log2(1024 / max |d L / d prediction|))`

    Keras's `LossScaleOptimizer` finds its scale over many steps of a training. A task's
    first inner step must be right already, so each inner step computes its own scale.

    Args:
        slopes: list of tensors, the derivatives of the loss in the predictions. Entries
            of None do not count.

    Returns:
        A float32 scalar, which counts as constant. It is 1 if all slopes are zero, or
        if one is not finite.

    >>> float(scale([tf.constant([0.25, -0.001])]))
    4096.0
    """
    sizes = [
        tf.reduce_max(tf.abs(tf.cast(s, tf.float32))) for s in slopes if s is not None
    ]
    largest = tf.stop_gradient(tf.reduce_max(tf.stack([0.0, *sizes])))
    usable = tf.logical_and(largest > 0.0, tf.math.is_finite(largest))
    ratio = LARGEST / tf.where(usable, largest, LARGEST)
    exponent = tf.floor(tf.math.log(ratio) / tf.math.log(2.0) + 1e-6)
    return tf.pow(2.0, tf.clip_by_value(exponent, *_EXPONENTS))


def gradient(tape: Any, loss: Any, weights: list[Any], predictions: Any) -> list[Any]:
    """The gradient of an inner loss, passed backwards through the network scaled.

    `g = (1 / S) d (S L) / d w`

    Args:
        tape: a persistent `tf.GradientTape` that recorded `loss`.
        loss: a scalar.
        weights: list of float32 tensors.
        predictions: nest of tensors on which `loss` depends.

    Returns:
        A list with a float32 gradient or None for each weight.
    """
    slopes = tape.gradient(loss, tf.nest.flatten(predictions))
    factor = scale(slopes)
    found = tape.gradient(loss, weights, output_gradients=tf.cast(factor, loss.dtype))
    return [
        g if g is None else tf.convert_to_tensor(g) / tf.cast(factor, g.dtype)
        for g in found
    ]
