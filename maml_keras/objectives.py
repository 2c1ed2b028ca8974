"""The query loss along a trajectory of adapted weights."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from maml_keras.inner import Point
from maml_keras.learner import Learner, Output


class QueryResult(NamedTuple):
    """One task's query pass.

    Attributes:
        loss: scalar, what the meta-gradient is taken of.
        predictions: of the query inputs, at the last adapted weights.
        state: list of tensors, the non-trainable variables after the pass.
    """

    loss: Any
    predictions: Any
    state: list[Any]


class Objective(abc.ABC):
    """Turns a trajectory and a query set into the loss that is meta-learned."""

    @abc.abstractmethod
    def __call__(
        self,
        learner: Learner,
        trajectory: list[Point],
        query_x: Any,
        query_loss: Callable[[Output], Any],
        *,
        training: bool,
    ) -> QueryResult:
        """The objective of one task.

        Args:
            learner: the model as a pure function.
            trajectory: the points `phi_0 .. phi_K`.
            query_x: query inputs `[examples, ...]`.
            query_loss: maps a query pass to the task's scalar loss.
            training: bool, whether dropout is active.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        """The objective with that configuration."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="maml_keras")
class FinalStep(Objective):
    """The query loss at the last adapted weights.

    `L = loss(query; phi_K)`

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400
    """

    def __call__(
        self,
        learner: Learner,
        trajectory: list[Point],
        query_x: Any,
        query_loss: Callable[[Output], Any],
        *,
        training: bool,
    ) -> QueryResult:
        last = trajectory[-1]
        output = learner(last.weights, last.state, query_x, training=training)
        return QueryResult(query_loss(output), output.predictions, output.state)
