"""How much each task counts in the mean over the tasks of a batch."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.configured import Configured
from maml_keras.learner.weights import SUPPORT


class TaskWeights(Configured, abc.ABC):
    """The weight of a task in the means of a meta-step.

    `mean = sum_i w_i g_i / sum_i w_i`, of losses, meta-gradients and moving statistics.
    Metrics and evaluations count all tasks alike.

    >>> class Doubled(TaskWeights):
    ...     "Twice the weight for tasks whose first target is above zero."
    ...     def __call__(self, task):
    ...         return tf.where(tf.reshape(task["support_y"], [-1])[0] > 0, 2.0, 1.0)
    >>> float(Doubled()({"support_y": tf.constant([[3.0], [1.0]])}))
    2.0
    """

    @abc.abstractmethod
    def __call__(self, task: dict[str, Any]) -> Any:
        """The weight of one task.

        Args:
            task: dict of `support_x`, `support_y` and `query_x`, `[examples, ...]`, and
                of `support_weight` and `query_weight` if the tasks are padded.

        Returns:
            Float scalar tensor, not negative; above zero for a task of each batch.
        """


@keras.saving.register_keras_serializable(package="maml_keras")
class EqualTasks(TaskWeights):
    """Each task counts the same: the plain mean.

    >>> EqualTasks()({}) is None
    True
    """

    def __call__(self, task: dict[str, Any]) -> Any:
        return None


@keras.saving.register_keras_serializable(package="maml_keras")
class BySize(TaskWeights):
    """A task counts as many times as it has support examples, without padding.

    `w_i = n_i`, as federated averaging weighs clients. With `Reptile()` and
    `keras.optimizers.SGD(1.0)` a meta-step is then a round of federated averaging:
    `theta <- sum_i n_i phi_i / sum_i n_i`.

    Reference: McMahan et al., 2017, https://arxiv.org/abs/1602.05629

    >>> weight = tf.constant([1.0, 1.0, 0.0])
    >>> task = {"support_x": tf.zeros([3, 2]), "support_weight": weight}
    >>> float(BySize()(task))
    2.0
    """

    def __call__(self, task: dict[str, Any]) -> Any:
        if SUPPORT in task:
            return tf.math.count_nonzero(task[SUPPORT], dtype=tf.float32)
        examples = tf.shape(tf.nest.flatten(task["support_x"])[0])[0]
        return tf.cast(examples, tf.float32)


def checked(weights: TaskWeights | None) -> TaskWeights:
    """The task weights of a model; None for `EqualTasks()`.

    Raises:
        TypeError: if they are of another kind.
    """
    if weights is not None and not isinstance(weights, TaskWeights):
        raise TypeError(
            "`task_weights` must be a TaskWeights, such as BySize(). Received: "
            f"task_weights={weights!r} of type {type(weights).__name__}."
        )
    return weights or EqualTasks()


def times(values: Any, weight: Any) -> Any:
    """Each float tensor of a nest times the weight; the nest itself if it is None."""
    if weight is None:
        return values
    return tf.nest.map_structure(lambda t: t * tf.cast(weight, t.dtype), values)


def over(values: Any, weight: Any) -> Any:
    """Each float tensor of a nest over the mean weight; the nest itself if None."""
    if weight is None:
        return values
    return tf.nest.map_structure(lambda t: t / tf.cast(weight, t.dtype), values)
