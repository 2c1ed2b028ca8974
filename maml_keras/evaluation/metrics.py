"""Metrics of a task's predictions, given by name or as a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.learner import masks
from maml_keras.learner.known_targets import KnownTargets
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.weights import are_weights

Metric = Callable[[Any, Any], Any]
# Words in the names of Keras's metric functions and in those of most users.
HIGHER = {"accuracy", "correlation"}
LOWER = {
    *("loss", "error", "crossentropy", "divergence", "hinge", "huber", "cosh"),
    "poisson",
}
Named = str | Metric | dict[Any, str | Metric] | None


def mean_of_task(function: Metric, parts: Any) -> Any:
    """A metric's mean over the examples of one task.

    As in Keras's metrics, masked positions do not count; if no position counts, the
    mean is 0. A metric with fewer axes than the mask, such as one value for each
    sequence, counts where one of the positions does.

    Args:
        function: the metric.
        parts: `(y_true, y_pred, masks)`, with the masks by `masks.taken(y_pred)`.
    """
    y_true, y_pred, known = parts
    values = function(y_true, masks.put_back(y_pred, known))
    return _mean(tf.cast(values, tf.float32), _masks_of(values, y_pred))


def _mean(values: Any, counted: list[Any]) -> Any:
    """The mean over the positions that count, according to each of some masks."""
    if not counted:
        return tf.reduce_mean(values)
    rank = values.shape.rank
    if rank == 0 and any(map(are_weights, counted)):
        raise ValueError(
            "`metric` must return a value for each example, so that padding can be "
            "left out. Received: one value for all. Return the values before their "
            "mean."
        )
    weight = tf.ones_like(values)
    for mask in counted:
        weight *= tf.cast(masks.expanded(masks.reduced(mask, rank), rank), values.dtype)
    total = tf.reduce_sum(weight)
    # NaN at a masked position must not count, either.
    kept = tf.where(weight > 0, values * weight, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(kept), total)


def _masks_of(values: Any, y_pred: Any) -> list[Any]:
    """The masks of a metric's own values and of the predictions."""
    both = [getattr(t, "_keras_mask", None) for t in (values, y_pred)]
    return [mask for mask in both if mask is not None]


def named_metric(loss: PureLoss, metric: Named) -> tuple[str, Metric | None]:
    """A metric's name and its function; for the loss itself the function is None.

    Args:
        loss: the outer loss, which tells the form of the targets.
        metric: `"accuracy"`, `"loss"`, the name of a metric function of Keras such as
            `"mean_absolute_error"`, or a function `f(y_true, y_pred)`. For one of
            several outputs: a dict with one entry, `{output: metric}`. None for
            accuracy with class numbers and one-hot rows, else the loss.

    Raises:
        ValueError: if the metric is unknown, or does not suit the targets.

    >>> named_metric(PureLoss("mse"), None)
    ('loss', None)
    """
    if metric is None:
        classes = loss.is_sparse_categorical or loss.is_categorical
        metric = "accuracy" if classes else "loss"
    if isinstance(metric, dict):
        return _of_output(loss, metric)
    if metric == "loss":
        return "loss", None
    name, function = _single(loss, metric)
    # The loss leaves out missing targets, so a metric that is given by name does, too.
    if loss.takes_missing and isinstance(metric, str):
        function = _of_known(function)
    return name, function


def _single(loss: PureLoss, metric: Any) -> tuple[str, Metric]:
    """The name and the function of a metric of one output."""
    if metric == "accuracy":
        return "accuracy", _accuracy(loss)
    if metric == "binary_accuracy" and loss.decision is not None:
        return "binary_accuracy", _binary_accuracy(loss.decision)
    if isinstance(metric, str):
        return metric, _function_of_keras(metric)
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
        "`metric` must be a name, a function f(y_true, y_pred), or a dict of one "
        f"output. Received: metric={metric!r}."
    )


@functools.cache
def _of_known(function: Metric) -> Metric:
    """The metric of the known targets; cached as in `_sparse_accuracy`."""
    return KnownTargets(function)


def _function_of_keras(name: str) -> Metric:
    """The metric function of Keras with that name.

    Raises:
        ValueError: if Keras has none.
    """
    function: Any = getattr(keras.metrics, name, None)
    if not inspect.isfunction(function) or name in ("get", "serialize", "deserialize"):
        raise ValueError(
            "`metric` must be 'accuracy', 'loss', the name of a metric function of "
            "Keras, such as 'mean_absolute_error', or a function f(y_true, y_pred). "
            f"Received: metric={name!r}."
        )
    checked: Metric = function
    return checked


def _of_output(loss: PureLoss, metric: dict[Any, Any]) -> tuple[str, Metric | None]:
    """The metric of one among several outputs."""
    if len(metric) != 1:
        raise ValueError(
            "`metric` must be a dict with one entry, {output: metric}, because an "
            f"evaluation has one figure. Received: metric={metric!r}. Evaluate each "
            "output in a call."
        )
    ((output, own),) = metric.items()
    parts = loss.parts
    part = loss if parts is None else parts[output]
    name, function = named_metric(part, own)
    if function is None:
        function = part
    return f"{output}_{name}", _picked(output, function)


@functools.cache
def _picked(output: Any, function: Metric) -> Metric:
    def metric(y_true: Any, y_pred: Any) -> Any:
        parts = y_true[output], y_pred[output], masks.taken(y_pred[output])
        return mean_of_task(function, parts)

    return metric


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
        name: str, the metric's name, after the name of an output if it has one.
        given: the user's statement about their own function, or None.

    Returns:
        `given`, or else True for accuracies and correlations, False for losses and
        errors, and None for any other name. The last word that tells decides, because
        the first words can be those of an output.

    >>> direction("accuracy"), direction("loss"), direction("r2")
    (True, False, None)
    >>> direction("age_loss"), direction("loss_head_accuracy")
    (False, True)
    """
    if given is not None:
        return given
    told = [word for word in name.split("_") if word in HIGHER | LOWER]
    return told[-1] in HIGHER if told else None


def _accuracy(loss: PureLoss) -> Metric:
    """The share of right predictions, for targets in the form that the loss takes."""
    if loss.is_sparse_categorical:
        return _sparse_accuracy(loss.ignored_class)
    if loss.is_categorical:
        function: Metric = keras.metrics.categorical_accuracy
        return function
    if loss.decision is not None:
        return _binary_accuracy(loss.decision)
    raise ValueError(
        "`metric='accuracy'` needs a categorical or binary cross-entropy, which tells "
        f"the form of the targets. Received: the loss {loss.name}. Pass the name of a "
        "metric: 'sparse_categorical_accuracy' for class numbers, "
        "'categorical_accuracy' for one-hot rows, or 'binary_accuracy' for "
        "probabilities of several labels."
    )


@functools.cache
def _binary_accuracy(decision: float) -> Metric:
    """The share of labels, 0 or 1, on whose side of `decision` the prediction lies."""

    def binary_accuracy(y_true: Any, y_pred: Any) -> Any:
        return keras.metrics.binary_accuracy(y_true, y_pred, threshold=decision)

    return binary_accuracy


@functools.cache
def _sparse_accuracy(ignored: int | None) -> Metric:
    """The accuracy function for an ignored class.

    The function is cached, because compiled curves are cached by their function.
    """
    if ignored is None:
        function: Metric = keras.metrics.sparse_categorical_accuracy
        return function

    def accuracy(y_true: Any, y_pred: Any) -> Any:
        right = keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
        counted = tf.reshape(y_true != tf.cast(ignored, y_true.dtype), tf.shape(right))
        return masks.put_back(right, {0: counted})

    return accuracy
