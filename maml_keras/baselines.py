"""What meta-learning is measured against: conventional pretraining."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.losses import LossIdentifier


def train_jointly(
    model: keras.Model,
    loss: LossIdentifier,
    episodes: Any,
    *,
    iterations: int,
    learning_rate: float = 1e-3,
    verbose: str | int = "auto",
) -> None:
    """Trains one network on the examples of all tasks together, without adaptation.

    `min_theta mean_i loss(support_i and query_i; theta)`. With random sinusoids the
    best answer is the mean of all curves. Wrap the result in `MAML` to measure how it
    adapts beside a meta-learned one.

    Args:
        model: a built model; its weights are trained in place.
        loss: any Keras loss identifier, a `keras.losses.Loss` or `f(y_true, y_pred)`.
        episodes: an endless `tf.data.Dataset` of batches `(task, query_y)`.
        iterations: int, gradient steps, each on all examples of one batch.
        learning_rate: float, of Adam.
        verbose: as in `keras.Model.fit`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """

    def pooled(task: dict[str, Any], query_y: Any) -> tuple[Any, Any]:
        return (
            _joined(task["support_x"], task["query_x"]),
            _joined(task["support_y"], query_y),
        )

    steps_per_execution = min(50, iterations)
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss,
        steps_per_execution=steps_per_execution,
    )
    data = episodes.map(pooled, num_parallel_calls=tf.data.AUTOTUNE)
    model.fit(
        data.prefetch(tf.data.AUTOTUNE),
        steps_per_epoch=iterations,
        shuffle=False,
        verbose=verbose,
    )


def _joined(support: Any, query: Any) -> Any:
    both = tf.concat([support, query], axis=1)
    return tf.reshape(both, tf.concat([[-1], tf.shape(both)[2:]], axis=0))
