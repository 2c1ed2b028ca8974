"""`Preparation`: from raw inputs and targets to a network's numbers, and back."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf


class Preparation(abc.ABC):
    """What turns raw data into the numbers of a network, and predictions back.

    A `MAML` that is trained on prepared episodes keeps its preparation: it is in the
    `.keras` file and in the export, so that whoever serves the network sends raw data
    and receives predictions in the unit of the data.

    All methods take and return tensors and run in TensorFlow's graph.

    >>> class Percent(Preparation):
    ...     x_spec = y_spec = tf.TensorSpec([None, 1])
    ...     def inputs(self, x):
    ...         return x / 100.0
    ...     targets = inputs
    ...     def restored(self, values):
    ...         return 100.0 * values
    ...     def raw(self, x, y=None):
    ...         return x, y
    ...     def get_config(self):
    ...         return {}
    >>> Percent().restored(tf.constant([0.5])).numpy().tolist()
    [50.0]
    """

    # Specs `[examples, ...]` of the raw inputs and of the raw targets.
    x_spec: Any
    y_spec: Any

    @abc.abstractmethod
    def inputs(self, x: Any) -> Any:
        """The network's inputs of raw inputs, each `[examples, ...]`."""

    @abc.abstractmethod
    def targets(self, y: Any) -> Any:
        """The network's targets of raw targets, each `[examples, ...]`."""

    @abc.abstractmethod
    def restored(self, values: Any) -> Any:
        """Predictions, or targets that a network takes, in the unit of the raw targets.

        Args:
            values: tensor `[..., outputs]`. Class numbers and scores of classes stay as
                they are.
        """

    @abc.abstractmethod
    def raw(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """A user's inputs and targets in the form of `x_spec` and `y_spec`.

        Args:
            x: a DataFrame, a file or arrays.
            y: None for targets that are in `x` too, or arrays; None is returned if
                there are none.

        Raises:
            ValueError: naming the column and the row of what does not fit.
        """

    def labelled(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The raw examples that have a target, of those that `raw` returned."""
        return x, y

    def is_raw(self, x: Any) -> bool:
        """Whether a user's inputs are raw data; other inputs are prepared already."""
        return not isinstance(x, (np.ndarray, tf.Tensor))

    def tables(self) -> list[Any]:
        """The lookup tables that a SavedModel must hold."""
        return []

    def described(self) -> dict[str, Any]:
        """Facts for the card, as plain data."""
        return {}

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preparation:
        """The preparation that `get_config` described."""
        return cls(**config)


class AsIs(Preparation):
    """Leaves everything as it is: the network takes raw data.

    Args:
        x_spec: nest of `tf.TensorSpec` of the inputs.
        y_spec: nest of `tf.TensorSpec` of the targets.
    """

    def __init__(self, x_spec: Any = None, y_spec: Any = None) -> None:
        self.x_spec, self.y_spec = x_spec, y_spec

    def inputs(self, x: Any) -> Any:
        return x

    def targets(self, y: Any) -> Any:
        return y

    def restored(self, values: Any) -> Any:
        return values

    def raw(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        return x, y

    def get_config(self) -> dict[str, Any]:
        return {"x_spec": self.x_spec, "y_spec": self.y_spec}


def check_rows(wrong: Any, values: Any, name: str, expected: str) -> Any:
    """`values`, after an operation that refuses them if a row is wrong.

    Args:
        wrong: bool tensor `[rows]`.
        values: tensor `[rows]`.
        name: str, the column's name for the message.
        expected: str, what the column must hold, for the message.
    """
    first = tf.boolean_mask(values, wrong)[:1]
    row = tf.where(wrong)[:1, 0]
    message = f"Column '{name}' must hold {expected}. Received:"
    message = message.replace("'", "`")  # TensorFlow writes a backslash before "'".
    check = tf.debugging.Assert(
        ~tf.reduce_any(wrong), [message, first, "in row", row], summarize=1
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(values)


def preparation_of(source: Any) -> Preparation | None:
    """The preparation of a family or of a dataset of its episodes, or None.

    Transformations of a dataset, such as `map` or `take`, and families that hold others
    keep the preparation.

    Args:
        source: a `TaskFamily`, a `tf.data.Dataset`, or any other data, which has none.

    Raises:
        ValueError: if the source is made from several that differ, or from families of
            which only some have a preparation.
    """
    own = getattr(source, "preparation", None)
    if own is not None:
        return own if isinstance(own, Preparation) else None
    inner: list[Any] = []
    if isinstance(source, tf.data.Dataset):
        inner = list(source._inputs())
    elif hasattr(source, "sample_many"):
        inner = tf.nest.flatten(list(vars(source).values()))
        inner = [value for value in inner if hasattr(value, "sample_many")]
    every = [preparation_of(each) for each in inner]
    found = [p for p in every if p is not None]
    partly = not isinstance(source, tf.data.Dataset) and 0 < len(found) < len(every)
    if partly or any(differ(p, found[0]) for p in found):
        raise ValueError(
            "All episodes must have one preparation. Received: "
            + ("episodes with and without one. " if partly else "several that differ. ")
            + "Fit one on the training tasks, and pass it on with "
            "`prepared_by(preparation)` of each table or pool."
        )
    return found[0] if found else None


def differ(one: Preparation, other: Preparation) -> bool:
    """Whether two preparations can give different numbers."""
    if one is other:
        return False
    same = type(one) is type(other) and one.get_config() == other.get_config()
    return not same
