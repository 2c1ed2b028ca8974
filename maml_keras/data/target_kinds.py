"""Targets of a table as a network predicts them: numbers, labels or classes."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.columns import Column, column
from maml_keras.data.preparation import check_rows

# No name of a class or category is this one.
UNKNOWN = "\x00unknown"


class Targets(abc.ABC):
    """The target columns of a table, of one kind.

    Attributes:
        names: tuple of the target columns.
        spec: `tf.TensorSpec` of the raw targets.
        outputs: int, the outputs that a network needs.
        kinds: the kinds of columns that fit.
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...]
    spec: tf.TensorSpec
    outputs: int

    @abc.abstractmethod
    def raw(self, columns: dict[str, Column]) -> Any:
        """The columns as one array of raw targets."""

    def columns_of(self, y: Any) -> dict[str, Column]:
        """A user's array, list or column `[rows]` or `[rows, columns]` as columns.

        Raises:
            ValueError: if there are more or fewer columns.
        """
        rows = np.asarray(y)
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise ValueError(
                f"`y` must hold {', '.join(self.names)} of each row. Received: shape "
                f"{np.shape(y)}."
            )
        return {
            name: series_column(values, as_text="text" in self.kinds)
            for name, values in zip(self.names, rows.T)
        }

    def check(self, columns: Mapping[str, Column], place: Callable[[int], str]) -> None:
        """Refuses columns of another kind.

        Args:
            columns: the target columns.
            place: says where a row comes from, for messages.

        Raises:
            ValueError: naming the column and the row.
        """
        for name in self.names:
            kind = columns[name].kind
            if kind not in self.kinds:
                raise ValueError(
                    f"Column {name!r} must hold {self.kinds[0]}s, as in training. "
                    f"Received: {kind} values, such as {columns[name].values[0]!r} in "
                    f"{place(0)}."
                )

    @abc.abstractmethod
    def prepared(self, y: Any) -> Any:
        """The targets that the network takes, from raw targets."""

    def restored(self, values: Any) -> Any:
        """Predictions or prepared targets in the original unit."""
        return values

    def answers(self, values: Any) -> dict[str, Any]:
        """Restored predictions by target column: numbers, scores, or classes by name.

        Args:
            values: array `[rows, outputs]`.
        """
        return dict(zip(self.names, np.asarray(values).T))

    def tables(self) -> list[Any]:
        """The lookup tables that a SavedModel must hold."""
        return []

    def described(self) -> dict[str, Any]:
        """Facts for the card."""
        return {"targets": list(self.names)}

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Targets:
        """The targets that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="maml_keras")
class Numbers(Targets):
    """Numbers, scaled to mean 0 and variance 1.

    `prepared = (y - mean) / sqrt(variance)`

    Args:
        names: the target columns.
        mean: floats, the mean of each column over the training rows.
        variance: floats, the variance of each column over the training rows.

    >>> targets = Numbers(["life"], mean=[60.0], variance=[100.0])
    >>> targets.restored(targets.prepared(tf.constant([[75.0]]))).numpy().tolist()
    [[75.0]]
    """

    kinds = ("number", "flag")

    def __init__(
        self, names: Sequence[str], mean: Sequence[float], variance: Sequence[float]
    ) -> None:
        self.names = tuple(names)
        self.mean, self.variance = list(mean), list(variance)
        self.outputs = len(self.names)
        self.spec = tf.TensorSpec([None, self.outputs], tf.float32)
        moments = {"mean": self.mean, "variance": self.variance}
        with tf.init_scope(), tf.device("CPU:0"):
            self._scaling = keras.layers.Normalization(**moments, dtype="float32")
            self._unscaling = keras.layers.Normalization(
                **moments, invert=True, dtype="float32"
            )
            for layer in (self._scaling, self._unscaling):
                layer.build([None, self.outputs])

    def raw(self, columns: dict[str, Column]) -> Any:
        return matrix(self.names, columns)

    def prepared(self, y: Any) -> Any:
        return self._scaling(y)

    def restored(self, values: Any) -> Any:
        return self._unscaling(tf.cast(values, tf.float32))

    def described(self) -> dict[str, Any]:
        return {
            **super().described(),
            "mean": dict(zip(self.names, self.mean)),
            "standard_deviation": dict(zip(self.names, np.sqrt(self.variance))),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "mean": self.mean,
            "variance": self.variance,
        }


@keras.saving.register_keras_serializable(package="maml_keras")
class Labels(Targets):
    """Labels that are true or false, as 1 and 0; several labels may be true at once.

    Args:
        names: the target columns.
    """

    kinds = ("flag", "number")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.outputs = len(self.names)
        self.spec = tf.TensorSpec([None, self.outputs], tf.float32)

    def raw(self, columns: dict[str, Column]) -> Any:
        return matrix(self.names, columns)

    def prepared(self, y: Any) -> Any:
        # A missing label is NaN, which `raw` lets pass only if it may be missing.
        wrong = tf.reduce_any((y != 0.0) & (y != 1.0) & (y == y), axis=-1)
        rows = check_rows(wrong, y[:, 0], ", ".join(self.names), "0 or 1")
        with tf.control_dependencies([rows]):
            return tf.identity(y)

    def get_config(self) -> dict[str, Any]:
        return {"names": list(self.names)}


@keras.saving.register_keras_serializable(package="maml_keras")
class Classes(Targets):
    """One class of those that training knows: its number, in the order of the names.

    Args:
        names: the target column, alone in a list.
        vocabulary: the names of the classes.
    """

    kinds = ("text",)

    def __init__(self, names: Sequence[str], vocabulary: Sequence[str]) -> None:
        self.names = tuple(names)
        self.vocabulary = list(vocabulary)
        self.outputs = len(self.vocabulary)
        self.spec = tf.TensorSpec([None], tf.string)
        self._lookup = lookup(self.vocabulary, output_mode="int")

    def raw(self, columns: dict[str, Column]) -> Any:
        return columns[self.names[0]].values

    def check(self, columns: Mapping[str, Column], place: Callable[[int], str]) -> None:
        super().check(columns, place)
        check_known(columns[self.names[0]], self.names[0], self.vocabulary, place)

    def prepared(self, y: Any) -> Any:
        numbers = tf.cast(self._lookup(y), tf.int32) - 1
        known = f"one of the classes of training, {some(self.vocabulary)}"
        wrong = numbers < 0
        with tf.control_dependencies([check_rows(wrong, y, self.names[0], known)]):
            return tf.identity(numbers)

    def answers(self, values: Any) -> dict[str, Any]:
        best = np.argmax(np.asarray(values), axis=-1)
        return {self.names[0]: [self.vocabulary[c] for c in best]}

    def tables(self) -> list[Any]:
        return [self._lookup.lookup_table]

    def described(self) -> dict[str, Any]:
        return {**super().described(), "classes": self.vocabulary}

    def get_config(self) -> dict[str, Any]:
        return {"names": list(self.names), "vocabulary": self.vocabulary}


def matrix(names: Sequence[str], columns: Mapping[str, Column]) -> Any:
    """Columns of numbers as a float32 matrix `[rows, columns]`."""
    values = [columns[name].values for name in names]
    return np.stack(values, axis=-1).astype(np.float32)


def labelled_rows(columns: Sequence[Column], missing_target: str) -> Any:
    """Which rows have a target, bool `[rows]`: any for `"mask"`, else all of them.

    Args:
        columns: the target columns.
        missing_target: as in `from_table`.
    """
    missing = np.array([column.missing for column in columns])
    return ~(missing.all(axis=0) if missing_target == "mask" else missing.any(axis=0))


def series_column(values: Any, *, as_text: bool) -> Column:
    """An array as a column."""
    import pandas as pd

    return column(pd.Series(values.tolist()), as_text=as_text)


def check_known(
    values: Column,
    name: str,
    known: Sequence[str],
    place: Callable[[int], str],
    *,
    also: Sequence[str] = (),
    remedy: str = "Correct it, or train on tasks that have it.",
) -> None:
    """Refuses a column of names with one that training does not know."""
    wrong = ~np.isin(values.values.astype(str), np.array([*known, *also], str))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"Column {name!r} must hold a value that training knows: {some(known)}. "
            f"Received: {values.values[row]!r} in {place(row)}"
            f"{_others(int(wrong.sum()) - 1)}. {remedy}"
        )


def _others(count: int) -> str:
    return f", and {count} more" if count else ""


def lookup(vocabulary: Sequence[str], *, output_mode: str) -> keras.layers.Layer:
    """A layer that numbers known names from 1, and gives others the number 0."""
    with tf.init_scope(), tf.device("CPU:0"):
        layer = keras.layers.StringLookup(
            vocabulary=list(vocabulary),
            num_oov_indices=1,
            oov_token=UNKNOWN,
            output_mode=output_mode,
        )
        layer.build([None])
    return layer


def some(names: Sequence[str]) -> str:
    """The first names of a list, for a message.

    >>> some(["a", "b"])
    "'a', 'b'"
    """
    more = ", ..." if len(names) > 6 else ""
    return ", ".join(map(repr, list(names)[:6])) + more
