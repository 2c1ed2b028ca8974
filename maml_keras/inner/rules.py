"""Update rules: how one inner step changes the weights."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf


class UpdateRule(keras.layers.Layer, abc.ABC):
    """One inner step: weights and gradients in, weights out.

    A rule is a Keras layer so that Keras tracks and saves its learned variables, such
    as a rate for each weight, and meta-training updates them. A rule is never called
    as a layer.

    >>> class SignDescent(UpdateRule):
    ...     def update(self, weights, gradients, state, *, step, learning_rate=None):
    ...         rate = 0.1 if learning_rate is None else learning_rate
    ...         moves = [rate * tf.sign(g) for g in gradients]
    ...         return [w - move for w, move in zip(weights, moves)], state
    >>> gradient = tf.constant([3.0, -4.0])
    >>> weights, _ = SignDescent().update([tf.zeros([2])], [gradient], (), step=0)
    >>> weights[0].numpy()
    array([-0.1,  0.1], dtype=float32)
    """

    @property
    def title(self) -> str:
        """The name of the rule on a card."""
        return type(self).__name__

    @property
    def fixed_rate(self) -> float | None:
        """The rate of all weights at all steps, or None if rates are learned."""
        return None

    def learned_rates(self) -> list[Any]:
        """The current learned rates, for plots and reports; empty without any.

        Returns:
            For each weight that adapts, in order, a tensor `[rows, ...]`. The tensor
            has one row for each inner step, or one row for all steps. A row is a
            scalar or has the shape of the weight.
        """
        return []

    def prepare(self, variables: list[Any], steps: int) -> None:
        """Creates the learned variables of the rule; `MAML` calls this method.

        Args:
            variables: the `keras.Variable`s that adapt.
            steps: int, inner steps in training.

        Raises:
            ValueError: if the rule was made for weights of other shapes.
        """

    def start(self, weights: list[Any]) -> Any:
        """The state of the rule for a new task, such as momenta; a nest of tensors."""
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

        The inner loop keeps a weight that the support loss ignores, even if `update`
        changes it.

        Args:
            weights: list of tensors, the weights that adapt.
            gradients: list of tensors of the same shapes.
            state: the state that `start` or the previous step returned.
            step: int or int tensor, counted from 0.
            learning_rate: float or scalar tensor that overrides the rule's rate; NaN
                does not override it.

        Returns:
            The new weights and the new state.
        """


class FixedRateRule(UpdateRule):
    """A rule with a single rate that is not learned.

    Args:
        learning_rate: float, not negative.

    Raises:
        ValueError: if the rate is negative or not finite.
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
        ValueError: if the rate is negative or not finite.

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
        # A sum, because a difference has one more operation in its derivative. One rate
        # per type of weight, because each step traces its constants again.
        down = {
            w.dtype: -rate_of(self.learning_rate, learning_rate, w) for w in weights
        }
        updated = [
            w + down[w.dtype] * tf.cast(g, w.dtype) for w, g in zip(weights, gradients)
        ]
        return updated, state


@keras.saving.register_keras_serializable(package="maml_keras")
class Momentum(FixedRateRule):
    """Gradient descent with momentum; each task has its own velocity.

    `m_{k+1} = momentum * m_k + g_k`, `phi_{k+1} = phi_k - learning_rate * m_{k+1}`,
    and with `nesterov` the step is `learning_rate * (g_k + momentum * m_{k+1})`.

    Args:
        learning_rate: float, not negative.
        momentum: float in `[0, 1)`.
        nesterov: bool.

    Raises:
        ValueError: if an argument is out of range.

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
    """Adam with separate moments for each task, differentiable also at zero gradients.

    `m = beta_1 m + (1 - beta_1) g`, `v = beta_2 v + (1 - beta_2) g^2`,
    `phi <- phi - learning_rate * m' / (sqrt(v') + epsilon)`, with `m'` and `v'`
    corrected for their start at zero. At `v' = 0` the root has an infinite slope, but
    the moment `m'` is zero too, so the derivative of the root counts as zero there.

    Args:
        learning_rate: float, not negative.
        beta_1: float in `[0, 1)`. Reptile uses 0.
        beta_2: float in `[0, 1)`.
        epsilon: float, positive. In the first step, the derivative at a zero gradient
            is `-learning_rate / epsilon`.

    Raises:
        ValueError: if an argument is out of range.

    Reference: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980

    >>> rule, w = Adam(0.1), [tf.constant(1.0)]
    >>> w, _ = rule.update(w, [tf.constant(5.0)], rule.start(w), step=0)
    >>> round(float(w[0]), 4)  # The first step has the size of the rate.
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
            # In half precision 0.999 is 1, and the square of a small gradient is 0.
            wide = _wide_type(w)
            gradient = tf.cast(g, wide)
            first = self.beta_1 * first + (1.0 - self.beta_1) * gradient
            second = self.beta_2 * second + (1.0 - self.beta_2) * gradient * gradient
            count = tf.cast(step, wide) + 1.0
            unbiased = second / (1.0 - tf.constant(self.beta_2, wide) ** count)
            some = unbiased > 0.0
            # The inner `tf.where` keeps the infinite slope out of the derivative.
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
    """The rate of an inner step: `override` if it is given, else the rule's rate.

    Args:
        own: float or tensor, the rule's rate, learned or not.
        override: the `learning_rate` that `update` received: None, a float or a
            tensor. NaN means None where a graph must hold a number.
        weight: tensor; the rate is cast to its type.

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
