"""Cross-entropies and their derivatives equal TensorFlow's own operations."""

import numpy as np
import tensorflow as tf
from lowered_operation import assert_same, draw, gradient

# Large logits, whose exponentials overflow.
LOGITS = draw(4, 5) * np.float32(100)


def test_class_numbers():
    labels = np.array([0, 4, 2, 2], "int32")

    def loss(logits, labels):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def derivative(logits, labels):
        return gradient(lambda z: loss(z, labels), [0])(logits)

    for function in (loss, derivative):
        assert_same(
            *(function, LOGITS, labels),
            replaces=["SparseSoftmaxCrossEntropyWithLogits"],
        )


def test_distributions():
    targets = np.abs(draw(4, 5, seed=1))

    def loss(logits, targets):
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    operation = "SoftmaxCrossEntropyWithLogits"
    assert_same(loss, LOGITS, targets, replaces=[operation])
    assert_same(gradient(loss, [0]), LOGITS, targets, replaces=[operation])


def test_log_softmax():
    assert_same(tf.nn.log_softmax, LOGITS, replaces=["LogSoftmax"])
    assert_same(gradient(tf.nn.log_softmax, [0]), LOGITS, replaces=["LogSoftmax"])
