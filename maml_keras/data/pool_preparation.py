"""`PoolPreparation`: a preparation of the examples of a pool."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.data.preparation import Preparation


class PoolPreparation(Preparation):
    """A preparation of inputs whose targets are classes of a pool.

    `pool.prepared_by(preparation)` hands it to a pool, `NWayKShot` to its tasks.
    """

    y_spec = tf.TensorSpec([None], tf.int32)

    @property
    @abc.abstractmethod
    def changes_the_pool(self) -> bool:
        """Whether tasks of the pool without this preparation hold other numbers."""

    @abc.abstractmethod
    def check(self, pool: Any) -> None:
        """Refuses a pool that this preparation cannot prepare.

        Raises:
            ValueError: with what the pool must hold.
        """

    def of_pool(self, x: Any) -> Any:
        """The network's inputs of examples as the tasks of a plain pool hold them."""
        return x

    def targets(self, y: Any) -> Any:
        """Class numbers, as they are."""
        return y

    def restored(self, values: Any) -> Any:
        """Scores of classes, as they are."""
        return values


def class_numbers(y: Any) -> Any:
    """A user's class numbers as int32; None if there are none."""
    return None if y is None else np.asarray(y).astype(np.int32)
