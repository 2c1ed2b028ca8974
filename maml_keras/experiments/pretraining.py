"""Ordinary training of one network on the examples of all tasks together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_keras import data
from maml_keras.data.pipeline_options import untuned
from maml_keras.execution import fused_steps
from maml_keras.learner import weights
from maml_keras.learner.losses import LossIdentifier

# Examples of one gradient step of a classifier.
BATCH = 128
# Tasks are joined until they have this many examples, which are then shuffled.
SHUFFLED = 2048


def train_jointly(
    model: keras.Model,
    loss: LossIdentifier,
    episodes: Any,
    *,
    iterations: int,
    learning_rate: float = 1e-3,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains one network on the examples of all tasks together, without adaptation.

    `min_theta mean_i loss(support_i and query_i; theta)`. With random sinusoids the
    best answer is the mean of all curves. To compare the trained network with a
    meta-learned one, wrap it in `MAML` and evaluate both.

    Args:
        model: a built model; its weights are trained in place.
        loss: any Keras loss identifier, a `keras.losses.Loss` or `f(y_true, y_pred)`.
        episodes: an endless `tf.data.Dataset` of batches `(task, query_y)`.
        iterations: int, gradient steps, each on all examples of one batch.
        learning_rate: float, of Adam.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss,
        steps_per_execution=fused_steps.steps_of(iterations),
    )
    pooled = episodes.map(joined, num_parallel_calls=tf.data.AUTOTUNE)
    model.fit(
        pooled.prefetch(2),
        steps_per_epoch=iterations,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    )


def train_on_classes(
    model: keras.Model,
    numbers: data.ClassNumbers,
    *,
    iterations: int,
    seed: int,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains the body of a network to tell all classes apart, under a head of its own.

    The network's last layer keeps its weights. Examples come from tasks, so that they
    are augmented and scaled as in meta-training.

    Args:
        model: a built model; the weights below its last layer are trained in place.
        numbers: the tasks, with labels that mean the same class in every task.
        iterations: int, gradient steps with Adam, each on 128 examples.
        seed: int, draws the tasks and shuffles their examples.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Raises:
        ValueError: if the model has no last layer on features, or if the tasks have
            labels outside of `[0, num_classes)`.
    """
    features = features_of(model)
    head = keras.layers.Dense(
        numbers.num_classes, dtype=features.dtype, name="all_classes"
    )
    classifier = keras.Model(model.inputs, head(features))
    classifier.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(
        _shuffled_examples(numbers, seed),
        steps_per_epoch=iterations,
        shuffle=False,  # The dataset is shuffled already.
        verbose=verbose,
        callbacks=list(callbacks),
    )


def features_of(model: keras.Model) -> Any:
    """The symbolic input of the last layer that has weights.

    Raises:
        ValueError: if the layers of the model are not known, or the last one with
            weights is itself a model.

    >>> from maml_keras import models
    >>> features_of(models.conv4()).shape
    (None, 64)
    """
    layers = [layer for layer in model.layers if layer.trainable_variables]
    known = getattr(model, "inputs", None) and layers
    if not known or len(list(layers[-1]._flatten_layers())) > 1:
        raise ValueError(
            "A network to pretrain on classes must be a Sequential or functional model "
            "whose last layer with weights turns features into logits. Received: "
            f"'{model.name}' of class {type(model).__name__}"
            + (f", which ends in '{layers[-1].name}'" if layers else "")
            + ". Build the model from its single layers."
        )
    return layers[-1].input


def joined(task: dict[str, Any], query_y: Any) -> tuple[Any, Any]:
    """All examples of a batch of tasks as one batch `(x, y)`, `[examples, ...]`.

    Raises:
        ValueError: if the tasks hold padding.
    """
    weights.refuse(task, "A network that is pretrained on all classes")

    def join(support: Any, query: Any) -> Any:
        both = tf.concat([support, query], axis=1)
        return tf.reshape(both, tf.concat([[-1], tf.shape(both)[2:]], axis=0))

    return (
        tf.nest.map_structure(join, task["support_x"], task["query_x"]),
        tf.nest.map_structure(join, task["support_y"], query_y),
    )


def _shuffled_examples(numbers: data.ClassNumbers, seed: int) -> Any:
    """Endless batches of examples and class numbers, mixed across many tasks."""
    one = data.episodes(numbers.tasks, batch_size=1, seed=1_000 + seed)
    task, query_y = one.element_spec
    examples = task["support_y"].shape[1] + query_y.shape[1]
    episodes = data.episodes(
        numbers.tasks, batch_size=max(4, SHUFFLED // examples), seed=1_000 + seed
    )

    def shuffled(index: Any, batch: Any) -> tuple[Any, Any]:
        x, y = joined(*batch)
        keys = tf.random.stateless_uniform(tf.shape(y)[:1], [seed, index])
        order = tf.argsort(keys)
        with tf.control_dependencies(
            [
                tf.debugging.assert_non_negative(y),
                tf.debugging.assert_less(y, tf.cast(numbers.num_classes, y.dtype)),
            ]
        ):
            mixed: tuple[Any, Any] = tf.nest.map_structure(
                lambda t: tf.gather(t, order), (x, y)
            )
            return mixed

    batches = episodes.enumerate().map(shuffled, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(batches.rebatch(BATCH).prefetch(2))
