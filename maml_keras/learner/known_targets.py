"""`KnownTargets`: a loss or a metric that leaves out targets of NaN."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.learner.loss_configs import loss_config


@keras.saving.register_keras_serializable(package="maml_keras")
class KnownTargets:
    """Leaves out each target that is NaN; the other targets of its row count.

    `sum(l_ij) / count(l_ij)` over the rows i and targets j with a known target `y_ij`.

    A loss for the inner loop and for `compile`, and a metric for `compile` and
    `mk.evaluate_episodes`. In a row with one known target of three, this target counts
    like any other. Without NaN the value is that of `function`.

    Args:
        function: a loss or a metric that is a mean over the targets of a row: its name
            in Keras (`"mse"`, `"mean_absolute_error"`), a `keras.losses.Loss`, or a
            function `f(y_true, y_pred)`.

    Raises:
        ValueError: if `function` is unknown, or no mean over the targets of a row, such
            as a categorical cross-entropy.

    >>> from maml_keras.learner import PureLoss
    >>> loss = PureLoss(KnownTargets("mse"))
    >>> y = tf.constant([[1.0, np.nan], [2.0, 5.0]])
    >>> float(loss(y, tf.zeros([2, 2])))  # (1 + 4 + 25) / 3
    10.0
    """

    def __init__(self, function: Any) -> None:
        self.function = _found(function)
        whole = isinstance(self.function, keras.losses.Loss)
        self._compute: Callable[[Any, Any], Any] = (
            self.function.call if whole else self.function
        )
        own = getattr(self.function, "name", None) or getattr(
            self.function, "__name__", type(self.function).__name__
        )
        # Keras and evaluations name a metric by one of the two.
        self.name = self.__name__ = str(own)
        _check_mean(function, self._compute)

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """One value for each target, with a mask of the known targets.

        Args:
            y_true: targets `[..., targets]`.
            y_pred: predictions of the same shape.
        """
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        if not y_true.shape.is_compatible_with(y_pred.shape):
            raise ValueError(
                "`y_true` must have the shape of the predictions, so that each output "
                f"has a target. Received: {tuple(y_true.shape)} for predictions "
                f"{tuple(y_pred.shape)}."
            )
        y_true = tf.cast(y_true, y_pred.dtype)
        known = ~tf.math.is_nan(y_true)
        # A number in place of NaN, because NaN times zero is NaN in a gradient.
        filled = without_missing(y_true)
        # An axis of length one, over which `function` takes its mean.
        values = self._compute(filled[..., None], y_pred[..., None])
        values._keras_mask = known
        return values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return {"function": loss_config(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KnownTargets:
        """The loss that `get_config` described."""
        return cls(keras.saving.deserialize_keras_object(config["function"]))


def without_missing(y: Any) -> Any:
    """Targets with 0 in place of NaN.

    >>> without_missing(tf.constant([1.0, np.nan])).numpy().tolist()
    [1.0, 0.0]
    """
    y = tf.convert_to_tensor(y)
    return (
        tf.where(tf.math.is_nan(y), tf.zeros_like(y), y) if y.dtype.is_floating else y
    )


def of_known(metrics: Any) -> Any:
    """Metrics of `compile`, with those that are given by name as `KnownTargets`.

    >>> [metric.name for metric in of_known(["mae"])]
    ['mean_absolute_error']
    """
    every = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(every, (list, tuple)):
        return metrics
    return [KnownTargets(one) if isinstance(one, str) else one for one in every]


def _found(function: Any) -> Any:
    """The loss or the metric function of that name; other objects as they are."""
    if not isinstance(function, str):
        return function
    try:
        return keras.losses.get(function)
    except ValueError:
        named = getattr(keras.metrics, function, None)
        if callable(named) and not isinstance(named, type):
            return named
        raise ValueError(
            "`function` must be the name of a loss or of a metric function of Keras. "
            f"Received: {function!r}."
        ) from None


def _check_mean(given: Any, compute: Any) -> None:
    """Refuses what is no mean over the targets of a row.

    Numbers tell: on a matrix, the value of each row must be the mean of the values that
    `compute` gives for single targets.
    """
    # Valid targets and predictions of any loss: labels and probabilities.
    y_true = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    y_pred = np.array([[0.3, 0.6], [0.2, 0.9], [0.4, 0.1]], np.float32)
    fits = False
    if callable(compute):
        with tf.init_scope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of a single class.
            try:
                rows = np.asarray(compute(y_true, y_pred)).reshape(3, -1).mean(axis=1)
                single = np.asarray(compute(y_true[..., None], y_pred[..., None]))
                fits = single.shape == (3, 2) and np.allclose(
                    rows, single.mean(axis=1), rtol=1e-4, atol=1e-6
                )
            except (TypeError, ValueError, tf.errors.OpError):
                fits = False
    if not fits:
        name = given if isinstance(given, str) else getattr(given, "__name__", given)
        raise ValueError(
            "`function` must be a mean over the targets of a row, such as 'mse', "
            "'binary_crossentropy' or `keras.losses.Huber()`, so that each target can "
            f"be left out. Received: {name!r}. A class has no parts that could be "
            "unknown: leave out rows without one."
        )
