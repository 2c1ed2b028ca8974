"""Clips inner gradients before any update rule."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner.rules import UpdateRule


class ClippingRule(UpdateRule, abc.ABC):
    """Passes clipped gradients to another rule.

    Args:
        rule: the `UpdateRule` that takes the step.
        limit: float, positive.

    Raises:
        TypeError: if `rule` is not an `UpdateRule`.
        ValueError: if `limit` is not positive.
    """

    def __init__(self, rule: UpdateRule, limit: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(rule, UpdateRule):
            raise TypeError(
                "`rule` must be an UpdateRule, such as `SGD(0.01)`. Received: "
                f"rule={rule!r} of type {type(rule).__name__}."
            )
        if not float(limit) > 0.0:
            raise ValueError(f"`limit` must be positive. Received: limit={limit}.")
        self.rule = rule
        self.limit = float(limit)
        self.built = True

    @property
    def title(self) -> str:
        return f"{type(self).__name__} of {self.rule.title}"

    @property
    def fixed_rate(self) -> float | None:
        return self.rule.fixed_rate

    def learned_rates(self) -> list[Any]:
        return self.rule.learned_rates()

    def prepare(self, variables: list[Any], steps: int) -> None:
        self.rule.prepare(variables, steps)

    def start(self, weights: list[Any]) -> Any:
        return self.rule.start(weights)

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        clipped = self._clipped(gradients)
        return self.rule.update(
            weights, clipped, state, step=step, learning_rate=learning_rate
        )

    @abc.abstractmethod
    def _clipped(self, gradients: list[Any]) -> list[Any]:
        """The gradients within the limit."""

    def get_config(self) -> dict[str, Any]:
        rule = keras.saving.serialize_keras_object(self.rule)
        return {**super().get_config(), "rule": rule, "limit": self.limit}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClippingRule:
        """The rule that `get_config` described."""
        rule = keras.saving.deserialize_keras_object(config["rule"])
        return cls(**{**config, "rule": rule})


@keras.saving.register_keras_serializable(package="maml_keras")
class ClipByValue(ClippingRule):
    """Clips each entry of the inner gradients to `[-limit, limit]`.

    The clipping is differentiable: an entry beyond the limit counts as a constant.

    Args:
        rule: the `UpdateRule` that takes the step.
        limit: float, positive.

    >>> from maml_keras import SGD
    >>> rule = ClipByValue(SGD(1.0), 2.0)
    >>> w, _ = rule.update([tf.zeros([2])], [tf.constant([1.0, -9.0])], (), step=0)
    >>> w[0].numpy()
    array([-1.,  2.], dtype=float32)
    """

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        return [tf.clip_by_value(g, -self.limit, self.limit) for g in gradients]


@keras.saving.register_keras_serializable(package="maml_keras")
class ClipByNorm(ClippingRule):
    """Clips the common norm of all inner gradients of a step to `limit`.

    `g <- g * min(1, limit / |g|)`, differentiable in g.

    Args:
        rule: the `UpdateRule` that takes the step.
        limit: float, positive.

    Reference: Pascanu et al., 2013, https://arxiv.org/abs/1211.5063

    >>> from maml_keras import SGD
    >>> rule = ClipByNorm(SGD(1.0), 5.0)  # The norm of the gradient below is 10.
    >>> w, _ = rule.update([tf.zeros([2])], [tf.constant([6.0, 8.0])], (), step=0)
    >>> w[0].numpy()
    array([-3., -4.], dtype=float32)
    """

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        wide = keras.backend.result_type("float32", *(g.dtype for g in gradients))
        cast = [tf.cast(g, wide) for g in gradients]
        # Dividing by the largest entry keeps squares from overflowing. The unit counts
        # as a constant, because the norm does not depend on the unit.
        largest = tf.reduce_max(tf.stack([tf.reduce_max(tf.abs(g)) for g in cast]))
        unit = tf.stop_gradient(tf.maximum(largest, self.limit))
        square = tf.add_n([tf.reduce_sum(tf.square(g / unit)) for g in cast])
        limit = self.limit / unit
        over = square > limit**2
        # The inner `tf.where` keeps the root of zero out of the derivative.
        scale = tf.where(over, limit * tf.math.rsqrt(tf.where(over, square, 1.0)), 1.0)
        return [g * tf.cast(scale, g.dtype) for g in gradients]
