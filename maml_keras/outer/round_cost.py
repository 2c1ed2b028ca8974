"""What a round of federated learning sends between a server and its clients."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.learner.batch_norm_policies import Frozen
from maml_keras.learner.moving_statistics import momenta
from maml_keras.outer.maml import MAML


class RoundCost(NamedTuple):
    """Bytes that a round sends, without what the network's protocol adds.

    Attributes:
        down: int, to one client: the initialisation, and the moving statistics.
        up: int, from one client: its meta-gradient, and its moving statistics.
        clients: int, the clients of a round.

    >>> cost = RoundCost(down=1_000_000, up=1_000_000, clients=10)
    >>> print(cost)
    1.0 MB to and 1.0 MB from each of 10 clients, 20.0 MB a round
    """

    down: int
    up: int
    clients: int

    @property
    def total(self) -> int:
        """Bytes of all clients of a round, both ways."""
        return self.clients * (self.down + self.up)

    def __str__(self) -> str:
        return (
            f"{_size(self.down)} to and {_size(self.up)} from each of {self.clients} "
            f"clients, {_size(self.total)} a round"
        )


def round_cost(maml: MAML, *, clients: int) -> RoundCost:
    """The bytes of one meta-step in which each task is a client of its own.

    `clients (down + up)`, each the size of `maml.trainable_variables` and of the moving
    statistics. A client needs the initialisation to adapt, and its meta-gradient has
    the same form: the adapted weights and this meta-gradient of `Reptile` cost the
    same. Frozen weights (`layer.trainable = False`) never change, so a client has them
    already and they cost nothing: adapters make rounds cheap.

    Args:
        maml: the model.
        clients: int, clients of a round: the tasks of a batch.

    Raises:
        ValueError: if `clients` is not positive.

    >>> import keras
    >>> import maml_keras as mk
    >>> model = keras.Sequential([keras.Input([9]), keras.layers.Dense(1)])
    >>> cost = round_cost(mk.recipes.reptile(model, "mse"), clients=5)
    >>> cost.down, cost.total  # Ten numbers of four bytes.
    (40, 400)
    """
    if isinstance(clients, bool) or int(clients) != clients or clients < 1:
        raise ValueError(
            f"`clients` must be a positive integer. Received: clients={clients!r}."
        )
    changing = [*maml.trainable_variables, *_moving(maml)]
    size = sum(_bytes(variable) for variable in changing)
    return RoundCost(down=size, up=size, clients=int(clients))


def _moving(maml: MAML) -> list[Any]:
    """The moving statistics, which a meta-step averages over tasks."""
    own = list(maml.batch_norm.statistics())
    if isinstance(maml.batch_norm, Frozen):
        return own
    of_batch_norm = momenta(maml.model)
    return own + [v for v in maml.model.variables if id(v) in of_batch_norm]


def _bytes(variable: Any) -> int:
    # TensorFlow, unlike NumPy, knows bfloat16.
    return int(tf.as_dtype(variable.dtype).size) * math.prod(map(int, variable.shape))


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
