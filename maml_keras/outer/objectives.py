"""The query loss along a trajectory of adapted weights."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_keras.backend.configured import Configured
from maml_keras.inner.loop import InnerLoop, Point
from maml_keras.learner.learner import Learner, Output
from maml_keras.learner.weights import passes_of, support_of

# The paper keeps a small weight on each step until the end of the annealing.
FLOOR = 0.03


class TaskProblem(NamedTuple):
    """One task, and everything that its loss and its meta-gradient depend on.

    Attributes:
        learner: the model as a pure function.
        inner: the inner loop.
        weights: list of tensors, the initialisation theta.
        state: list of tensors, the non-trainable variables.
        task: `support_x`, `support_y` and `query_x` of one task.
        query_loss: maps a query pass to the task's scalar loss.
        iteration: int tensor, meta-steps taken so far.

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.SGD(0.1))
    >>> problem = TaskProblem(None, inner, [], [], {}, lambda output: 0.0, 0)
    >>> problem.first_order().inner.second_order
    False
    """

    learner: Learner
    inner: InnerLoop
    weights: list[Any]
    state: list[Any]
    task: dict[str, Any]
    query_loss: Callable[[Output], Any]
    iteration: Any

    def first_order(self) -> TaskProblem:
        """The problem whose inner gradients count as constants."""
        return self._replace(inner=self.inner.first_order())

    def trajectory(self) -> list[Point]:
        """The points `phi_0 .. phi_K` of the inner loop in training."""
        return self.inner.trajectory(
            self.learner,
            self.weights,
            self.state,
            *support_of(self.task),
            training=True,
        )

    def adapted(self, trajectory: list[Point]) -> list[Any]:
        """The last weights of a trajectory, of those that adapt."""
        return self.inner.selected(self.learner, trajectory[-1].weights)

    def query(self, point: Point, *, step: int) -> Output:
        """The query pass in training at the point after `step` inner steps."""
        return self.learner.query(
            point.weights,
            point.state,
            self.task["support_x"],
            self.task["query_x"],
            training=True,
            step=step,
            **passes_of(self.task),
        )


class QueryResult(NamedTuple):
    """One task's query pass.

    Attributes:
        loss: scalar, the loss that the meta-gradient differentiates.
        predictions: predictions of the query inputs, at the last adapted weights.
        state: list of tensors, the non-trainable variables after the pass.
    """

    loss: Any
    predictions: Any
    state: list[Any]


class Objective(Configured, abc.ABC):
    """Turns a trajectory and a query set into the loss that meta-training minimises.

    >>> class SupportToo(Objective):
    ...     def __call__(self, problem, trajectory):
    ...         first = FinalStep()(problem, trajectory[:1])
    ...         last = FinalStep()(problem, trajectory)
    ...         return last._replace(loss=0.5 * (first.loss + last.loss))
    >>> import maml_keras as mk
    >>> mk.Backprop(SupportToo()).objective.get_config()
    {}
    """

    @abc.abstractmethod
    def __call__(self, problem: TaskProblem, trajectory: list[Point]) -> QueryResult:
        """The objective of one task.

        Args:
            problem: the task, with the query loss.
            trajectory: the points `phi_0 .. phi_K`.
        """


@keras.saving.register_keras_serializable(package="maml_keras")
class FinalStep(Objective):
    """The query loss at the last adapted weights.

    `L = loss(query; phi_K)`

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> import maml_keras as mk
    >>> mk.FirstOrder(FinalStep()).objective  # doctest: +ELLIPSIS
    <...FinalStep object at ...>
    """

    def __call__(self, problem: TaskProblem, trajectory: list[Point]) -> QueryResult:
        last = len(trajectory) - 1
        output = problem.query(trajectory[last], step=last)
        loss = problem.query_loss(output)
        return QueryResult(loss, output.predictions, output.state)


@keras.saving.register_keras_serializable(package="maml_keras")
class MultiStep(Objective):
    """A weighted sum of the query losses after each inner step.

    `L = sum_{k=1}^K w_k loss(query; phi_k)`. All weights start at `1 / K`. In each
    epoch, all weights but the last fall by `1 / (K epochs)`, but not below `0.03 / K`.
    The last weight grows in return: `w_K = 1 - sum_{k<K} w_k`.

    Args:
        epochs: int, positive, number of epochs after which the weights stay constant.
        steps_per_epoch: int, positive, meta-steps in an epoch.

    Raises:
        ValueError: if an argument is not positive.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> MultiStep(epochs=10, steps_per_epoch=500).weights(2500, steps=5).numpy()
    array([0.1, 0.1, 0.1, 0.1, 0.6], dtype=float32)
    """

    def __init__(self, *, epochs: int, steps_per_epoch: int) -> None:
        if epochs < 1 or steps_per_epoch < 1:
            raise ValueError(
                "`epochs` and `steps_per_epoch` must be positive. Received: "
                f"epochs={epochs}, steps_per_epoch={steps_per_epoch}."
            )
        self.epochs = int(epochs)
        self.steps_per_epoch = int(steps_per_epoch)

    def weights(self, iteration: Any, *, steps: int) -> Any:
        """The weights of steps 1 to K, `[steps]`, after `iteration` meta-steps."""
        epoch = tf.cast(iteration // self.steps_per_epoch, tf.float32)
        fallen = (1.0 - epoch / self.epochs) / steps
        others = tf.repeat(tf.maximum(fallen, FLOOR / steps), steps - 1)
        return tf.concat([others, [1.0 - tf.reduce_sum(others)]], axis=0)

    def __call__(self, problem: TaskProblem, trajectory: list[Point]) -> QueryResult:
        last = len(trajectory) - 1
        steps = range(min(1, last), last + 1)
        outputs = [problem.query(trajectory[k], step=k) for k in steps]
        losses = tf.stack([problem.query_loss(output) for output in outputs])
        weights = self.weights(problem.iteration, steps=len(outputs))
        loss = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
        return QueryResult(loss, outputs[-1].predictions, outputs[-1].state)

    def get_config(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "steps_per_epoch": self.steps_per_epoch}
