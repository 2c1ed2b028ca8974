"""Outputs of a model as probabilities, and back into the form that its loss takes."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from maml_keras.learner.losses import PureLoss

# Keras's own bound of probabilities in a cross-entropy.
EPSILON = 1e-7


class OutputForm(abc.ABC):
    """How a mean over models is taken of their outputs.

    Attributes:
        of_probabilities: bool, whether outputs mean probabilities of classes.
    """

    of_probabilities = True

    def mean(self, outputs: list[Any]) -> Any:
        """The mean of several models' outputs, in the form that the loss takes.

        Args:
            outputs: nests of tensors `[..., classes]`, one for each model.

        Raises:
            ValueError: if their shapes differ.
        """
        shapes = [[leaf.shape for leaf in tf.nest.flatten(one)] for one in outputs]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(
                "The members of an ensemble must have outputs of the same shapes. "
                f"Received: {', '.join(map(str, shapes))}. Evaluate them one by one."
            )
        means = [
            tf.add_n([self.opened(leaf) for leaf in leaves]) / len(outputs)
            for leaves in zip(*map(tf.nest.flatten, outputs))
        ]
        return tf.nest.pack_sequence_as(outputs[0], [self.closed(m) for m in means])

    @abc.abstractmethod
    def opened(self, output: Any) -> Any:
        """The output as something whose mean over models makes sense."""

    def closed(self, mean: Any) -> Any:
        """The inverse of `opened`."""
        return mean


class Classes(OutputForm):
    """Outputs of a categorical cross-entropy: a row of classes for each example.

    Args:
        loss: the loss.
    """

    def __init__(self, loss: PureLoss) -> None:
        self.loss = loss

    def opened(self, output: Any) -> Any:
        """Probabilities `[..., classes]` that add up to one."""
        output = tf.cast(output, tf.float32)
        if self.loss.from_logits:
            return tf.nn.softmax(output)
        return output / tf.reduce_sum(output, axis=-1, keepdims=True)

    def closed(self, mean: Any) -> Any:
        """Logits, if the loss takes logits."""
        if not self.loss.from_logits:
            return mean
        return tf.math.log(tf.maximum(mean, EPSILON))

    def rows(self, output: Any) -> Any:
        """Probabilities `[..., classes]`."""
        return self.opened(output)

    def classes(self, y: Any, rows: Any) -> tuple[Any, Any]:
        """Class numbers `[...]`, and whether each counts.

        Args:
            y: targets, as the loss takes them.
            rows: probabilities `[..., classes]`.
        """
        if self.loss.is_categorical:
            numbers = tf.argmax(y, axis=-1, output_type=tf.int32)
            return numbers, tf.ones_like(numbers, tf.bool)
        numbers = tf.cast(tf.reshape(y, tf.shape(rows)[:-1]), tf.int32)
        ignored = self.loss.ignored_class
        if ignored is None:
            return numbers, tf.ones_like(numbers, tf.bool)
        return tf.maximum(numbers, 0), numbers != ignored


class Labels(OutputForm):
    """Outputs of a binary cross-entropy: each is a label of its own, 0 or 1.

    Args:
        loss: the loss.
    """

    def __init__(self, loss: PureLoss) -> None:
        self.loss = loss

    def opened(self, output: Any) -> Any:
        """Probabilities of 1."""
        output = tf.cast(output, tf.float32)
        return tf.sigmoid(output) if self.loss.from_logits else output

    def closed(self, mean: Any) -> Any:
        """Logits, if the loss takes logits."""
        if not self.loss.from_logits:
            return mean
        kept = tf.clip_by_value(mean, EPSILON, 1.0 - EPSILON)
        return tf.math.log(kept) - tf.math.log1p(-kept)

    def rows(self, output: Any) -> Any:
        """Probabilities `[..., 2]` of 0 and of 1."""
        one = self.opened(output)
        return tf.stack([1.0 - one, one], axis=-1)

    def classes(self, y: Any, rows: Any) -> tuple[Any, Any]:
        """Labels `[...]`, and whether each counts: one of NaN is not known."""
        y = tf.reshape(tf.cast(y, tf.float32), tf.shape(rows)[:-1])
        known = tf.math.is_finite(y)
        return tf.cast(tf.where(known, y, 0.0) > 0.5, tf.int32), known


class Numbers(OutputForm):
    """All other outputs: numbers, whose mean is the ensemble's prediction."""

    of_probabilities = False

    def opened(self, output: Any) -> Any:
        """The output itself."""
        return tf.cast(output, tf.float32)


def of(loss: PureLoss) -> Classes | Labels | Numbers:
    """The form of the outputs that a loss takes.

    Args:
        loss: the outer loss.

    >>> of(PureLoss("mse")).of_probabilities
    False
    """
    if loss.is_sparse_categorical or loss.is_categorical:
        return Classes(loss)
    return Numbers() if loss.decision is None else Labels(loss)
