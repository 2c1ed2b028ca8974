"""`from_arrays`: a pool from labelled arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maml_keras.data.pool import Pool, of_each


def from_arrays(
    x: Any,
    y: Any,
    *,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    example_groups: Sequence[str] | npt.NDArray[Any] | None = None,
) -> Pool:
    """A pool from labelled arrays.

    Args:
        x: array `[n, ...]`: uint8 images, floats (cast to float32) or integers; or a
            dict of arrays by name, for a model of several inputs.
        y: labels `[n]`, integers, strings or booleans, in an array, a list or a column
            of a table. Classes are sorted by label; examples keep their order within a
            class.
        class_names: the name of label c at position c (integer labels only); names
            without examples are left out. Defaults to the labels themselves.
        groups: the group of each class, in the order of `class_names`, or without
            `class_names` in the order of the sorted labels.
        example_groups: the group of each example, in the order of `x`, such as who
            drew the image.

    Returns:
        A `Pool`.

    Raises:
        ValueError: if lengths differ, the arrays are empty, x is not finite or not
            numeric, or the labels do not fit the names.

    >>> from_arrays(np.zeros([3, 28, 28, 1], np.uint8), [7, 3, 7])
    Pool(2 classes, 3 examples of shape (28, 28, 1) uint8, 1 to 2 per class)
    """
    x, y = _inputs(x), _labels(y)
    for name, part in _named(x):
        if y.ndim != 1 or part.ndim < 1 or len(part) != len(y):
            raise ValueError(
                f"`{name}` and `y` must have the same length, y of shape [n]. Received:"
                f" {name} of shape {part.shape}, y of shape {y.shape}. Pass one label "
                "per example: class numbers, not one-hot rows. For a column pass "
                "y.ravel(), for one-hot rows y.argmax(-1)."
            )
        if not len(part):
            raise ValueError(
                f"`{name}` must hold at least one example. Received: shape "
                f"{part.shape}. Check how the array was read or filtered."
            )
    if y.dtype.kind not in "iuU":
        raise ValueError(
            "`y` must be integers or strings. Received: dtype "
            f"{y.dtype}. Convert class numbers with y.astype(int). For regression "
            "targets, write a `TaskFamily` instead of a pool."
        )
    labels, counts = np.unique(y, return_counts=True)
    kept = np.arange(len(labels))
    names = [str(label) for label in labels.tolist()]
    if class_names is not None:
        known = len(class_names)
        if y.dtype.kind == "U" or labels[0] < 0 or labels[-1] >= known:
            raise ValueError(
                "`class_names` must cover integer labels. Received: "
                f"{known} names for labels {names[0]} to {names[-1]}. Pass the name of "
                "label c at position c; with string labels, leave `class_names` out."
            )
        kept, names = labels, [str(class_names[int(c)]) for c in labels]
    if groups is not None:
        expected = len(names) if class_names is None else len(class_names)
        if len(groups) != expected:
            raise ValueError(
                "`groups` must name one group per class. Received: "
                f"{len(groups)} groups for {expected} classes. Pass one per class."
            )
        groups = [groups[int(c)] for c in kept]
    if example_groups is not None and len(example_groups) != len(y):
        raise ValueError(
            "`example_groups` must name one group per example. Received: "
            f"{len(example_groups)} groups for {len(y)} examples. Pass one per example."
        )
    order = np.argsort(y, kind="stable")
    return Pool(
        of_each(lambda part: part[order], x),
        counts=counts,
        class_names=names,
        groups=groups,
        example_groups=(
            None if example_groups is None else np.asarray(example_groups)[order]
        ),
    )


def _named(x: Any) -> list[tuple[str, Any]]:
    """The name of each input in messages, and the input."""
    if isinstance(x, dict):
        return [(f"x[{name!r}]", part) for name, part in x.items()]
    return [("x", x)]


def _inputs(x: Any) -> Any:
    """Inputs as one array, or as a dict of arrays.

    Raises:
        ValueError: if an input cannot be one array, or there is no input.
    """
    if not isinstance(x, dict):
        return _array("x", x)
    if not x or not all(isinstance(name, str) for name in x):
        raise ValueError(
            "`x` must be an array, or a dict of arrays by name. Received: a dict with "
            f"the keys {list(x)}. Name each input as the model does."
        )
    named = zip(x, _named(x), strict=True)
    return {key: _array(name, part) for key, (name, part) in named}


def _array(name: str, x: Any) -> npt.NDArray[Any]:
    """One input as an array.

    Raises:
        ValueError: if the examples differ in shape, or are not in one array.
    """
    if isinstance(x, dict):
        raise ValueError(
            f"`{name}` must be one array. Received: a dict with the keys "
            f"{', '.join(map(str, x))}. Pass all inputs in one dict."
        )
    try:
        array = np.asarray(x)
        lengths = (
            {np.shape(row) for row in array.ravel()} if array.dtype == object else set()
        )
    except ValueError:  # NumPy refuses rows of unequal shape.
        array, lengths = np.empty(0), {np.shape(row) for row in x}
    if len(lengths) > 1:
        shown = ", ".join(map(str, sorted(lengths)[:3]))
        raise ValueError(
            f"`{name}` must hold examples of one shape. Received: examples of shapes "
            f"{shown}, ... Pass series of unequal length to `mk.data.from_series`, or "
            "resize images."
        )
    if array.dtype == object and hasattr(x, "columns"):
        text = [str(c) for c in x.columns if np.asarray(x[c]).dtype.kind not in "biuf"]
        raise ValueError(
            f"`{name}` must be numeric. Received: the columns {', '.join(text)} of text"
            " or mixed values. Turn them into numbers first, such as by "
            "`pandas.get_dummies(x, columns=[...])`."
        )
    return array


def _labels(y: Any) -> npt.NDArray[Any]:
    """Labels as an array of integers or of strings.

    Raises:
        ValueError: if a label is missing.
    """
    labels = np.asarray(y)
    if labels.dtype.kind == "O":
        missing = sum(_is_missing(v) for v in labels.ravel())
        if missing:
            raise ValueError(
                f"`y` must have a label for each example. Received: {missing} missing "
                "labels. Leave these examples out."
            )
        kinds = {type(v) for v in labels.ravel()}
        numbers = all(issubclass(kind, (int, np.integer)) for kind in kinds)
        return labels.astype(np.int64 if numbers and bool not in kinds else str)
    # A column of booleans, or of bytes.
    return labels.astype(str) if labels.dtype.kind in "bS" else labels


def _is_missing(label: Any) -> bool:
    # The missing value of pandas refuses to be compared, so ask for its name first.
    return label is None or str(label) == "<NA>" or bool(label != label)
