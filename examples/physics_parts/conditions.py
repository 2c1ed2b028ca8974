"""A function that must fulfil conditions, as a Keras model: a physics-informed network.

Raissi et al., 2017, https://arxiv.org/abs/1711.10561
"""

import abc
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class Conditions(keras.Model, abc.ABC):
    """A network `u`, or the left side of an equation for `u`, as each row asks.

    `output = sum_k asked_k * operator_k(u)(point)`

    A row is a condition on `u`: a point, the constants of the equation, and a number
    for each operator, mostly one 1 and zeros. The row's target is what the sum must be,
    so the mean squared error of the rows is the squared residual of the equation and of
    its boundary values. A row `[1, 0, ...]` asks for the solution itself.

    Args:
        network: a built `keras.Model` from points `[rows, dimensions]` to `[rows, 1]`,
            smooth enough for the derivatives: tanh, not ReLU.
    """

    # Every operation of a smooth dense network has a form with a task axis.
    vectorizes = True

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.built = True

    @abc.abstractmethod
    def operators(self, point: Any, constants: Any) -> list[Any]:
        """The network at the points, then the equation's other operators.

        Args:
            point: tensor `[rows, dimensions]`.
            constants: tensor `[rows, number of constants]`.

        Returns:
            Tensors `[rows, 1]`; the first is `u`.
        """

    def call(self, rows: dict[str, Any]) -> Any:
        """The sum `[rows, 1]` for rows of `point`, `constants` and `asked`."""
        found = self.operators(rows["point"], rows["constants"])
        asked = rows["asked"]
        return tf.add_n([asked[:, k, None] * value for k, value in enumerate(found)])

    def get_config(self) -> dict[str, Any]:
        """The network as plain data."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Conditions":
        """The model that `get_config` described."""
        network = keras.saving.deserialize_keras_object(config.pop("network"))
        return cls(network, **config)


def derivatives(function: Callable[[Any], Any], x: Any, order: int) -> list[Any]:
    """A function of one number and its derivatives, by nested gradient tapes.

    Args:
        function: takes a tensor `[rows, 1]` and returns one, row by row.
        x: tensor `[rows, 1]`.
        order: int, the highest derivative.

    Returns:
        `[f(x), f'(x), ..., f^(order)(x)]`, each `[rows, 1]`.

    >>> [float(d[0, 0]) for d in derivatives(lambda x: x**3, tf.constant([[2.0]]), 3)]
    [8.0, 12.0, 12.0, 6.0]
    """
    if not order:
        return [function(x)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        lower = derivatives(function, x, order - 1)
    return [*lower, tape.gradient(lower[-1], x)]


def smooth_network(dimensions: int, *, units: int = 32, layers: int = 2) -> Any:
    """A dense network with tanh from points to one number."""
    hidden = [keras.layers.Dense(units, activation="tanh") for _ in range(layers)]
    return keras.Sequential([keras.Input([dimensions]), *hidden, keras.layers.Dense(1)])


def rows_of(points: Any, asked: Any, constants: Any) -> dict[str, Any]:
    """Rows that ask the same at each point.

    Args:
        points: tensor `[rows, dimensions]`.
        asked: floats, one for each operator.
        constants: tensor `[number of constants]`, those of the task.
    """
    count = tf.shape(points)[0]
    return {
        "point": points,
        "asked": tf.repeat(tf.constant([asked], tf.float32), count, axis=0),
        "constants": tf.repeat(constants[None], count, axis=0),
    }


def together(*parts: dict[str, Any]) -> dict[str, Any]:
    """Several sets of rows as one."""
    return {key: tf.concat([part[key] for part in parts], 0) for key in parts[0]}
