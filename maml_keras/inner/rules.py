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

    @property
    def title(self) -> str:
        """What a card calls it."""
        return type(self).__name__

    @property
    def fixed_rate(self) -> float | None:
        """The rate of every weight at every step, or None if it is learned."""
        return None

    def learned_rates(self) -> list[Any]:
        """The rates that were learned, to be looked at: none if there are none.

        Returns:
            For each weight that adapts, in their order, a tensor `[steps, ...]` with a
            row for each inner step of its own, or one row that holds for all; of the
            shape of the weight, or a scalar, after it.
        """
        return []

    def prepare(self, variables: list[Any], steps: int) -> None:
        """Creates what the rule learns; `MAML` calls it when it is made.

        Args:
            variables: the `keras.Variable`s that adapt.
            steps: int, inner steps in training.

        Raises:
            ValueError: if the rule was made for weights of other shapes.
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

        A weight that the support loss ignores stays as it is, whatever comes back.

        Args:
            weights: list of the adapted weights' tensors.
            gradients: list of tensors of the same shapes.
            state: what `start` or the step before returned.
            step: int or int tensor, counted from 0.
            learning_rate: float or scalar tensor that overrides the rule's own; NaN
                leaves it as it is.

        Returns:
            The new weights and the new state.
        """


class FixedRateRule(UpdateRule):
    """A rule with one rate, a number that is not learned.

    Args:
        learning_rate: float, not negative.

    Raises:
        ValueError: if the rate is negative or not a number.
    """

    def __init__(self, learning_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learning_rate = checked_rate(learning_rate)
        self.built = True

    @property
    def fixed_rate(self) -> float:
        return self.learning_rate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self.learning_rate}


@keras.saving.register_keras_serializable(package="maml_keras")
class SGD(FixedRateRule):
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
        super().__init__(learning_rate, **kwargs)

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        # A sum, since the derivative of a difference is one operation more; a rate for
        # each type of weight, since what is constant is traced in every step again.
        down = {
            w.dtype: -rate_of(self.learning_rate, learning_rate, w) for w in weights
        }
        updated = [
            w + down[w.dtype] * tf.cast(g, w.dtype) for w, g in zip(weights, gradients)
        ]
        return updated, state


@keras.saving.register_keras_serializable(package="maml_keras")
class Momentum(FixedRateRule):
    """Gradient descent with a velocity of the task's own.

    `m_{k+1} = momentum * m_k + g_k`, `phi_{k+1} = phi_k - learning_rate * m_{k+1}`,
    and with `nesterov` the step is `learning_rate * (g_k + momentum * m_{k+1})`.

    Args:
        learning_rate: float, not negative.
        momentum: float in `[0, 1)`.
        nesterov: bool.

    Raises:
        ValueError: if a number is out of its range.

    Reference: Sutskever et al., 2013

    >>> rule, w = Momentum(1.0, momentum=0.5), [tf.constant(0.0)]
    >>> state = rule.start(w)
    >>> for k in range(2):
    ...     w, state = rule.update(w, [tf.constant(1.0)], state, step=k)
    >>> float(w[0])  # -1, then -(0.5 + 1)
    -2.5
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        *,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.momentum = _checked_decay("momentum", momentum)
        self.nesterov = bool(nesterov)

    def start(self, weights: list[Any]) -> Any:
        return [tf.zeros_like(w) for w in weights]

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        updated, velocities = [], []
        for w, g, velocity in zip(weights, gradients, state):
            gradient = tf.cast(g, w.dtype)
            moved = self.momentum * velocity + gradient
            towards = gradient + self.momentum * moved if self.nesterov else moved
            updated.append(w - rate_of(self.learning_rate, learning_rate, w) * towards)
            velocities.append(moved)
        return updated, velocities

    def get_config(self) -> dict[str, Any]:
        own = {"momentum": self.momentum, "nesterov": self.nesterov}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="maml_keras")
class Adam(FixedRateRule):
    """Adam with moments of the task's own, differentiable where a gradient is zero.

    `m = beta_1 m + (1 - beta_1) g`, `v = beta_2 v + (1 - beta_2) g^2`,
    `phi <- phi - learning_rate * m' / (sqrt(v') + epsilon)`, with `m'` and `v'`
    corrected for their start at zero. The root's infinite slope at zero meets a zero
    moment; their product, which is zero, is what its derivative counts as there.

    Args:
        learning_rate: float, not negative.
        beta_1: float in `[0, 1)`. Reptile uses 0.
        beta_2: float in `[0, 1)`.
        epsilon: float, positive. The derivative at a zero gradient is `rate / epsilon`.

    Raises:
        ValueError: if a number is out of its range.

    Reference: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980

    >>> rule, w = Adam(0.1), [tf.constant(1.0)]
    >>> w, _ = rule.update(w, [tf.constant(5.0)], rule.start(w), step=0)
    >>> round(float(w[0]), 4)  # The first step is the rate, whatever the gradient.
    0.9
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        *,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = _checked_decay("beta_1", beta_1)
        self.beta_2 = _checked_decay("beta_2", beta_2)
        if not float(epsilon) > 0.0:
            raise ValueError(f"`epsilon` must be positive. Received: {epsilon}.")
        self.epsilon = float(epsilon)

    def start(self, weights: list[Any]) -> Any:
        zeros = [tf.zeros_like(w, dtype=_wide_type(w)) for w in weights]
        return zeros, list(zeros)

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        updated, firsts, seconds = [], [], []
        for w, g, first, second in zip(weights, gradients, *state):
            # In half precision 0.999 is 1, and a small gradient's square is 0.
            wide = _wide_type(w)
            gradient = tf.cast(g, wide)
            first = self.beta_1 * first + (1.0 - self.beta_1) * gradient
            second = self.beta_2 * second + (1.0 - self.beta_2) * gradient * gradient
            count = tf.cast(step, wide) + 1.0
            unbiased = second / (1.0 - tf.constant(self.beta_2, wide) ** count)
            some = unbiased > 0.0
            # The inner choice keeps the root's infinite slope out of the derivative.
            root = tf.where(some, tf.sqrt(tf.where(some, unbiased, 1.0)), 0.0)
            rate = rate_of(self.learning_rate, learning_rate, gradient)
            rate /= 1.0 - tf.constant(self.beta_1, wide) ** count
            updated.append(w - tf.cast(rate * first / (root + self.epsilon), w.dtype))
            firsts.append(first)
            seconds.append(second)
        return updated, (firsts, seconds)

    def get_config(self) -> dict[str, Any]:
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


def _wide_type(tensor: Any) -> str:
    return str(keras.backend.result_type(tensor.dtype, "float32"))


def rate_of(own: Any, override: Any, weight: Any) -> Any:
    """The rate of an inner step: the caller's, if there is one, else the rule's own.

    Args:
        own: float or tensor, the rule's rate, learned or not.
        override: what `update` got as `learning_rate`: None, a float or a tensor. NaN
            stands for none where a graph must hold a number.
        weight: tensor, whose type the rate gets.

    Returns:
        A tensor that multiplies the gradient of `weight`.

    >>> weight = tf.constant([1.0, 2.0])
    >>> [float(rate_of(0.1, rate, weight)) for rate in (None, float("nan"), 0.5)]
    [0.10000000149011612, 0.10000000149011612, 0.5]
    """
    # `tf.cast` would round a Python float to float32 on its way to float64.
    own = keras.ops.convert_to_tensor(own, weight.dtype)
    if override is None:
        return own
    override = keras.ops.convert_to_tensor(override, weight.dtype)
    return tf.where(tf.math.is_nan(override), own, override)


def checked_rate(learning_rate: Any) -> float:
    """The rate as a float; refuses one that is negative or not finite."""
    if not float(learning_rate) >= 0.0 or float(learning_rate) == float("inf"):
        raise ValueError(
            "`learning_rate` must be a finite number, not negative. Received: "
            f"learning_rate={learning_rate}."
        )
    return float(learning_rate)


def _checked_decay(name: str, value: Any) -> float:
    if not 0.0 <= float(value) < 1.0:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value}.")
    return float(value)
