"""Cross-entropies, whose operations return the loss and its derivative."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from maml_keras.export.lowering.table import lowers
from maml_keras.export.lowering.values import Node


@lowers("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_cross_entropy(node: Node, logits: Any, labels: Any) -> list[Any]:
    chosen = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    shifted, exponentials, total = _softmax_parts(logits)
    loss = tf.math.log(tf.squeeze(total, -1)) - tf.reduce_sum(shifted * chosen, -1)
    return [loss, exponentials / total - chosen]


@lowers("SoftmaxCrossEntropyWithLogits")
def _cross_entropy(node: Node, logits: Any, targets: Any) -> list[Any]:
    shifted, exponentials, total = _softmax_parts(logits)
    loss = tf.reduce_sum(targets * (tf.math.log(total) - shifted), -1)
    return [loss, exponentials / total - targets]


@lowers("LogSoftmax")
def _log_softmax(node: Node, logits: Any) -> Any:
    shifted, _, total = _softmax_parts(logits)
    return shifted - tf.math.log(total)


def _softmax_parts(logits: Any) -> tuple[Any, Any, Any]:
    shifted = logits - tf.reduce_max(logits, -1, keepdims=True)
    exponentials = tf.exp(shifted)
    return shifted, exponentials, tf.reduce_sum(exponentials, -1, keepdims=True)
