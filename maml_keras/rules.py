"""How one inner step changes the weights."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf


class UpdateRule(keras.layers.Layer, abc.ABC):
    """One inner step: weights and gradients in, weights out.

    A rule is a Keras layer so that what it learns (a rate for each weight, say) is
    tracked, saved and meta-trained with the rest. It is never called as a layer.
    """

    def start(self, weights: list[Any]) -> Any:
        """The rule's own state for a new task, such as momenta; a nest of tensors."""
        return ()

    @abc.abstractmethod
    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        """The weights after one step.

        Args:
            weights: list of the adapted weights' tensors.
            gradients: list of tensors of the same shapes.
            state: what `start` or the step before returned.
            step: int or int tensor, counted from 0.
            learning_rate: float or scalar tensor that overrides the rule's own.

        Returns:
            The new weights and the new state.
        """


@keras.saving.register_keras_serializable(package="maml_keras")
class SGD(UpdateRule):
    """Plain gradient descent.

    `phi_{k+1} = phi_k - learning_rate * gradient`

    Args:
        learning_rate: float, not negative.

    Raises:
        ValueError: if the rate is negative or not a number.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> weights, _ = SGD(0.5).update([tf.constant(3.0)], [tf.constant(2.0)], (), step=0)
    >>> float(weights[0])
    2.0
    """

    def __init__(self, learning_rate: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not float(learning_rate) >= 0.0 or float(learning_rate) == float("inf"):
            raise ValueError(
                "`learning_rate` must be a finite number, not negative. Received: "
                f"learning_rate={learning_rate}."
            )
        self.learning_rate = float(learning_rate)
        self.built = True

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        rate = self.learning_rate if learning_rate is None else learning_rate
        # `tf.cast` would round a Python float to float32 on its way to float64.
        updated = [
            w - keras.ops.convert_to_tensor(rate, w.dtype) * tf.cast(g, w.dtype)
            for w, g in zip(weights, gradients)
        ]
        return updated, state

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self.learning_rate}
