"""`TablePreparation`: columns of a table as one matrix, fitted on training tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.columns import NO_TEXT, Column, no_text
from maml_keras.data.preparation import Preparation, check_rows
from maml_keras.data.table_sources import check_no_missing, read_columns, title
from maml_keras.data.target_kinds import (
    Classes,
    Labels,
    Numbers,
    Targets,
    check_known,
    labelled_rows,
    lookup,
    some,
)
from maml_keras.data.task_table import TaskTable

PRECISION = 1e-3
"""Largest rounding to float32, in standard deviations of a column."""


@keras.saving.register_keras_serializable(package="maml_keras")
class TablePreparation(Preparation):
    """Scales numbers, one-hot encodes categories, fills missing values; and back.

    `inputs` returns a matrix `[examples, num_features]`: first each number, scaled to
    mean 0 and variance 1 over the training rows, then for numbers with missing values
    in training a 1 where the value is missing, then a 1 for each category's value. A
    missing number is replaced by the mean. `feature_names` names the columns.

    Keras's layers `Normalization` and `StringLookup` do the work, on the raw columns
    and outside the network, so adaptation does not differentiate them.

    Make one with `TablePreparation.fit`; `split_tasks` does so on its training part.

    Args:
        numbers: by name, the `(mean, variance)` of each column of numbers or booleans.
        indicators: the columns of numbers that get an indicator of missing values.
        categories: by name, the known values of each category.
        targets: the target columns: `Numbers`, `Labels` or `Classes`.
        missing: `"refuse"` or `"mean"`, for missing inputs.
        unknown: `"refuse"` or `"zeros"`, for unknown categories.
        missing_target: `"refuse"`, `"leave_out"` or `"mask"`, for rows without a
            target.

    >>> from maml_keras.data import from_table
    >>> data = {"shop": list("aabb"), "size": [1.0, 3.0, 1.0, 3.0],
    ...         "sales": [10.0, 30.0, 10.0, 30.0]}
    >>> table = from_table(data, task="shop", inputs=["size"], target="sales")
    >>> TablePreparation.fit(table).feature_names
    ['size']
    """

    def __init__(
        self,
        *,
        numbers: Mapping[str, Sequence[float]],
        indicators: Sequence[str],
        categories: Mapping[str, Sequence[str]],
        targets: Targets,
        missing: str,
        unknown: str,
        missing_target: str = "refuse",
    ) -> None:
        self.numbers = {name: tuple(m) for name, m in numbers.items()}
        self.indicators = list(indicators)
        self.categories = {name: list(v) for name, v in categories.items()}
        self.target_columns = targets
        self.missing, self.unknown = missing, unknown
        self.missing_target = missing_target
        moments = np.array(list(self.numbers.values()) or [(0.0, 1.0)])
        self._means = moments[:, 0].astype(np.float32)
        with tf.init_scope(), tf.device("CPU:0"):
            self._scaling = keras.layers.Normalization(
                mean=moments[:, 0], variance=moments[:, 1], dtype="float32"
            )
            self._scaling.build([None, len(moments)])
        self._lookups = {
            name: lookup(known, output_mode="one_hot")
            for name, known in self.categories.items()
        }
        self.x_spec = {
            **{name: tf.TensorSpec([None], tf.float32) for name in self.numbers},
            **{name: tf.TensorSpec([None], tf.string) for name in self.categories},
        }
        self.y_spec = targets.spec

    @classmethod
    def fit(cls, train: TaskTable) -> TablePreparation:
        """The preparation of the training tasks.

        Args:
            train: the training tasks alone: means and known values of other tasks would
                tell the network about them.

        Raises:
            ValueError: if a column has the same value in each row, or numbers that
                float32 cannot tell apart.

        >>> from maml_keras.data import from_table
        >>> data = {"shop": list("aabb"), "size": [1.0, 3.0, 1.0, 3.0],
        ...         "kind": ["x", "y", "x", "x"], "sales": [10.0, 30.0, 10.0, 30.0]}
        >>> table = from_table(data, task="shop", inputs=["size", "kind"],
        ...                    target="sales")
        >>> preparation = TablePreparation.fit(table)
        >>> preparation.feature_names
        ['size', "kind='x'", "kind='y'"]
        >>> x, y = preparation.raw({"size": [3.0], "kind": ["y"]})
        >>> preparation.inputs(x).numpy().tolist()
        [[1.0, 0.0, 1.0]]
        """
        numbers, indicators, categories = {}, [], {}
        for name, column in train.inputs.items():
            if column.is_text:
                known = sorted(set(column.values.tolist()))
                _check_varied(name, known[:2], train)
                categories[name] = known
            else:
                numbers[name] = _moments(name, column, train)
                if column.missing.any():
                    indicators.append(name)
        return cls(
            numbers=numbers,
            indicators=indicators,
            categories=categories,
            targets=_targets(train),
            missing=train.missing,
            unknown=train.unknown,
            missing_target=train.missing_target,
        )

    @property
    def columns(self) -> list[str]:
        """The input columns."""
        return [*self.numbers, *self.categories]

    @property
    def feature_names(self) -> list[str]:
        """What each column of the prepared matrix is."""
        values = [
            f"{name}={value!r}" if value else f"{name} is missing"
            for name, known in self.categories.items()
            for value in known
        ]
        absent = [f"{name} is missing" for name in self.indicators]
        return [*self.numbers, *absent, *values]

    @property
    def num_features(self) -> int:
        """The width of the prepared matrix: the network's `keras.Input([..])`."""
        return len(self.feature_names)

    @property
    def num_outputs(self) -> int:
        """The outputs that a network needs: numbers, labels or classes."""
        return self.target_columns.outputs

    def inputs(self, x: Any) -> Any:
        """The prepared matrix `[examples, num_features]` of raw columns.

        Args:
            x: dict of tensors `[examples]`, float32 for numbers and strings for
                categories.
        """
        parts = []
        if self.numbers:
            raw = tf.stack([self._number(n, x[n]) for n in self.numbers], axis=-1)
            absent = tf.math.is_nan(raw)
            parts.append(self._scaling(tf.where(absent, self._means, raw)))
            where = [list(self.numbers).index(name) for name in self.indicators]
            if where:
                parts.append(tf.gather(tf.cast(absent, tf.float32), where, axis=-1))
        parts += [self._one_hot(name, x[name]) for name in self.categories]
        return tf.concat(parts, axis=-1)

    def _number(self, name: str, values: Any) -> Any:
        values = tf.cast(values, tf.float32)
        if self.missing == "mean":
            return values
        return check_rows(tf.math.is_nan(values), values, name, "a number in each row")

    def _one_hot(self, name: str, values: Any) -> Any:
        encoded = tf.cast(self._lookups[name](values), tf.float32)
        wrong = encoded[:, 0] > 0.0
        if self.missing == "mean":
            wrong &= values != ""
        if self.unknown == "refuse":
            known = f"a value that training knows, {some(self.categories[name])}"
            with tf.control_dependencies([check_rows(wrong, values, name, known)]):
                encoded = tf.identity(encoded)
        # Without the column of unknown values, whose weights were never trained.
        return encoded[:, 1:]

    def targets(self, y: Any) -> Any:
        return self.target_columns.prepared(y)

    def restored(self, values: Any) -> Any:
        return self.target_columns.restored(values)

    def answers(self, predictions: Any) -> dict[str, Any]:
        """Predictions by target column: numbers, scores of labels, or class names.

        Args:
            predictions: array `[rows, outputs]`, what an adapted model returned.
        """
        return self.target_columns.answers(predictions)

    def raw(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Raw columns and targets of a table.

        Args:
            x: a DataFrame, a file, or a dict of columns, as for `from_table`.
            y: None for the target columns of `x`, or an array of targets.

        Returns:
            A dict of arrays `[examples]`, float32 or of strings, and the targets in
            the form of `y_spec`; None if `x` has no target column and `y` is None.
            Unless `missing_target` is `"refuse"`, a missing target is NaN or an empty
            text, and `labelled` leaves out rows without a target.

        Raises:
            ValueError: if a column is missing, or a value is missing or unknown.
        """
        own = self.target_columns.names if y is None else ()
        names = [n for n in own if "text" in self.target_columns.kinds]
        text = [*self.categories, *names]
        found = read_columns(x, self.columns, text=text, optional=own)
        source = title(x)

        def place(row: int) -> str:
            return f"row {row} of {source}"

        inputs = {name: found[name] for name in self.columns}
        for name in self.categories:  # A column without any value has no kind yet.
            if inputs[name].kind == "empty":
                inputs[name] = no_text(len(inputs[name].values))
        self._check(inputs, place)
        raw_x = {
            name: c.values if c.is_text else c.values.astype(np.float32)
            for name, c in inputs.items()
        }
        if y is not None:
            own, found = self.target_columns.names, self.target_columns.columns_of(y)
        elif not set(own) <= set(found):
            return raw_x, None
        known = labelled_rows([found[name] for name in own], self.missing_target)
        if self.missing_target == "refuse":
            for name in own:
                check_no_missing(found[name], name, source)
        if known.any():
            rows = np.flatnonzero(known)
            self.target_columns.check(
                {name: found[name].take(rows) for name in own},
                lambda row: place(int(rows[row])),
            )
        elif "text" in self.target_columns.kinds:
            found = {name: no_text(len(known)) for name in own}
        return raw_x, self.target_columns.raw(found)

    def labelled(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The rows with a target, of those that `raw` returned.

        With several targets: rows with all of them, or with any for `"mask"`.

        Raises:
            ValueError: if no row has them.
        """
        if y is None:
            return x, y
        if y.dtype == object:
            known = y != NO_TEXT
        else:
            missing = np.isnan(y)
            any_will_do = self.missing_target == "mask"
            known = ~(missing.all(-1) if any_will_do else missing.any(-1))
        if not known.any():
            raise ValueError(
                f"A row must have the target {', '.join(self.target_columns.names)}. "
                "Received: none in any row. Adaptation needs rows with targets."
            )
        return {name: column[known] for name, column in x.items()}, y[known]

    def check(self, table: TaskTable) -> None:
        """Refuses a table that this preparation cannot prepare.

        Raises:
            ValueError: naming the column and the row.
        """
        for name in (*self.columns, *self.target_columns.names):
            if name not in {**table.inputs, **table.targets}:
                raise ValueError(
                    f"The table must have the column {name!r} of the preparation. "
                    f"Received: {table!r} with the columns "
                    f"{', '.join([*table.inputs, *table.targets])}."
                )
        self._check(dict(table.inputs), table.place)
        self.target_columns.check(dict(table.targets), table.place)

    def _check(
        self, columns: Mapping[str, Column], place: Callable[[int], str]
    ) -> None:
        for name in self.numbers:
            found = columns[name]
            if found.kind not in ("number", "flag", "empty"):
                raise ValueError(
                    f"Column {name!r} must hold numbers, as in training. Received: "
                    f"{found.kind} values, such as {found.values[0]!r} in {place(0)}."
                )
            self._check_missing(found, name, place)
        for name, known in self.categories.items():
            found = columns[name]
            if self.missing == "refuse":
                self._check_missing(found, name, place)
            if self.unknown == "refuse":
                check_known(
                    found,
                    name,
                    known,
                    place,
                    also=("",) if self.missing == "mean" else (),
                    remedy="Correct it, or train with `from_table(..., "
                    "unknown='zeros')`, which takes it as none of them.",
                )

    def _check_missing(
        self, column: Column, name: str, place: Callable[[int], str]
    ) -> None:
        if self.missing == "refuse" and column.missing.any():
            raise ValueError(
                f"Column {name!r} must have a value in each row. Received: none in "
                f"{place(int(np.argmax(column.missing)))}. Give a value, or train with "
                "`from_table(..., missing='mean')`."
            )

    def tables(self) -> list[Any]:
        """The lookup tables that a SavedModel must hold."""
        own = [layer.lookup_table for layer in self._lookups.values()]
        return [*own, *self.target_columns.tables()]

    def described(self) -> dict[str, Any]:
        """Facts for the card: the columns and what they may hold."""
        return {
            "numbers": list(self.numbers),
            "categories": self.categories,
            "missing": self.missing,
            "unknown": self.unknown,
            "missing_target": self.missing_target,
            **self.target_columns.described(),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return {
            "numbers": {name: list(m) for name, m in self.numbers.items()},
            "indicators": self.indicators,
            "categories": self.categories,
            "targets": keras.saving.serialize_keras_object(self.target_columns),
            "missing": self.missing,
            "unknown": self.unknown,
            "missing_target": self.missing_target,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TablePreparation:
        """The preparation that `get_config` described."""
        targets = keras.saving.deserialize_keras_object(config["targets"])
        return cls(**{**config, "targets": targets})


def _targets(train: TaskTable) -> Targets:
    """The targets of a table, by the kind of their columns."""
    names = list(train.targets)
    kinds = {column.kind for column in train.targets.values()}
    if len(kinds) > 1 or (kinds == {"text"} and len(names) > 1) or "time" in kinds:
        found = ", ".join(f"{n}: {c.kind}" for n, c in train.targets.items())
        raise ValueError(
            "`target` must be columns of numbers, columns of booleans, or one column "
            f"of classes. Received: {found}. Choose columns of one kind."
        )
    if kinds == {"text"}:
        known = sorted(set(train.targets[names[0]].values.tolist()))
        _check_varied(names[0], known[:2], train)
        return Classes(names, known)
    if kinds == {"flag"}:
        return Labels(names)
    moments = [_moments(name, column, train) for name, column in train.targets.items()]
    return Numbers(names, *map(list, zip(*moments)))


def _moments(name: str, column: Column, train: TaskTable) -> tuple[float, float]:
    """Mean and variance of the values that are there, in float64."""
    values = column.values[~column.missing]
    _check_varied(name, [float(values.min()), float(values.max())], train)
    mean, variance = float(values.mean()), float(values.var())
    rounding = np.abs(values - values.astype(np.float32)).max()
    if rounding > PRECISION * np.sqrt(variance):
        raise ValueError(
            f"Column {name!r} must hold numbers that float32 can tell apart. Received: "
            f"numbers around {mean:g} with a standard deviation of "
            f"{np.sqrt(variance):g}. Subtract a constant first, such as "
            f"df[{name!r}] - {mean:.0f}, here and when you predict."
        )
    return mean, variance


def _check_varied(name: str, some_values: list[Any], train: TaskTable) -> None:
    if len(set(some_values)) < 2:
        raise ValueError(
            f"Column {name!r} must vary over the training tasks. Received: "
            f"{some_values[0]!r} in all {len(train.rows)} rows. Leave the column out, "
            "or give training other tasks."
        )
