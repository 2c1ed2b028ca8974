"""Metrics of a task's predictions, given by name or as a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.learner.losses import PureLoss

Metric = Callable[[Any, Any], Any]


def mean_of_task(function: Metric, pair: Any) -> Any:
    """A metric's mean over the examples of one task's pair `(y_true, y_pred)`."""
    return tf.reduce_mean(tf.cast(function(*pair), tf.float32))


def named_metric(
    loss: PureLoss, metric: str | Metric | None
) -> tuple[str, Metric | None]:
    """A metric's name and its function; for the loss itself the function is None.

    Args:
        loss: the outer loss, which tells the form of the targets.
        metric: `"accuracy"`, `"loss"` or a function `f(y_true, y_pred)`; None for
            accuracy with class numbers and one-hot rows, else the loss.

    Raises:
        ValueError: if the metric is unknown, or does not suit the targets.

    >>> named_metric(PureLoss("mse"), None)
    ('loss', None)
    """
    if metric is None:
        classes = loss.is_sparse_categorical or loss.is_categorical
        metric = "accuracy" if classes else "loss"
    if metric == "loss":
        return "loss", None
    if metric == "accuracy":
        return "accuracy", _accuracy(loss)
    if isinstance(metric, keras.metrics.Metric):
        raise ValueError(
            "`metric` must be a function f(y_true, y_pred): a `keras.metrics.Metric` "
            "would add up the values of all tasks and steps. Received: "
            f"{type(metric).__name__}. Pass its function, such as "
            "`keras.metrics.mean_absolute_error`."
        )
    if callable(metric):
        return getattr(metric, "__name__", type(metric).__name__), metric
    raise ValueError(
        "`metric` must be 'accuracy', 'loss' or a function f(y_true, y_pred). "
        f"Received: metric={metric!r}."
    )


def class_numbers(loss: PureLoss, y: Any) -> Any:
    """The class numbers of targets, without those that the loss ignores.

    Args:
        loss: a categorical loss, which tells the form of the targets.
        y: array `[examples, ...]`.

    >>> import numpy as np
    >>> class_numbers(PureLoss("categorical_crossentropy"), np.eye(3)[[2, 0]])
    array([2, 0])
    """
    return y.argmax(axis=-1) if loss.is_categorical else y[y != loss.ignored_class]


def direction(name: str, given: bool | None = None) -> bool | None:
    """Whether a higher value of a metric is better.

    Args:
        name: str, the metric's name.
        given: the user's statement about their own function, or None.

    Returns:
        `given`, or else True for accuracies, False for losses and errors, and None for
        any other name.

    >>> direction("accuracy"), direction("loss"), direction("r2")
    (True, False, None)
    """
    if given is not None:
        return given
    if "accuracy" in name:
        return True
    return False if name == "loss" or "error" in name else None


def _accuracy(loss: PureLoss) -> Metric:
    """The share of right predictions, for targets in the form that the loss takes."""
    if loss.is_sparse_categorical:
        return _sparse_accuracy(loss.ignored_class)
    if loss.is_categorical:
        function: Metric = keras.metrics.categorical_accuracy
        return function
    raise ValueError(
        "`metric='accuracy'` needs class numbers or one-hot rows, and a categorical "
        f"cross-entropy. Received: the loss {loss.name}. Pass a function: "
        "`keras.metrics.sparse_categorical_accuracy` for class numbers, or "
        "`keras.metrics.binary_accuracy`, whose threshold is 0.5."
    )


@functools.cache
def _sparse_accuracy(ignored: int | None) -> Metric:
    """The accuracy function for an ignored class.

    The function is cached, because compiled curves are cached by their function. If no
    query of a task counts, the task's accuracy is 0.
    """
    if ignored is None:
        function: Metric = keras.metrics.sparse_categorical_accuracy
        return function

    def accuracy(y_true: Any, y_pred: Any) -> Any:
        right = keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
        counted = tf.reshape(y_true != tf.cast(ignored, y_true.dtype), tf.shape(right))
        counted = tf.cast(counted, right.dtype)
        return tf.reduce_sum(right * counted) / tf.maximum(tf.reduce_sum(counted), 1)

    return accuracy
