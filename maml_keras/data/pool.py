"""`Pool`: labelled examples grouped by class."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maml_keras.data.rows import Rows, digest


class Pool:
    """Labelled examples in memory, sorted by class.

    Class c owns the rows `examples[offsets[c] : offsets[c] + counts[c]]`.

    Most pools come from `from_arrays`, `from_tfds` or `omniglot`. Images of dtype
    uint8 keep their dtype, which saves three quarters of the memory, and are scaled to
    float32 in [0, 1] when an episode is gathered. Examples of two or three axes count
    as images; rows of a table of dtype uint8 become float32 and keep their values.
    Floats become float32; other integers, such as tokens, keep their dtype.

    Args:
        examples: array `[n, ...]`, sorted by class, or `Rows`, or a dict of them for a
            model of several inputs.
        counts: ints `[classes]`, the number of examples of each class.
        class_names: one unique name per class.
        groups: the group of each class (e.g. its alphabet), or None.
        example_groups: the group of each example (e.g. who drew it), or None.

    Raises:
        ValueError: if the arguments do not fit each other.

    >>> Pool(np.zeros([5, 2]), counts=[2, 3], class_names=["a", "b"])
    Pool(2 classes, 5 examples of shape (2,) float32, 2 to 3 per class)
    """

    def __init__(
        self,
        examples: Any,
        *,
        counts: Sequence[int] | npt.NDArray[Any],
        class_names: Sequence[str],
        groups: Sequence[str] | None = None,
        example_groups: Sequence[str] | npt.NDArray[Any] | None = None,
    ) -> None:
        self.examples: Any = (
            {n: _as_examples(f"x[{n!r}]", examples[n]) for n in sorted(examples)}
            if isinstance(examples, dict)
            else _as_examples("x", examples)
        )
        self.counts = np.asarray(counts, dtype=np.int64)
        self.offsets = np.cumsum(self.counts) - self.counts
        self.class_names = tuple(str(name) for name in class_names)
        self.groups = None if groups is None else tuple(str(g) for g in groups)
        # An array, because there may be very many examples.
        self.example_groups = (
            None if example_groups is None else np.asarray(example_groups, dtype=str)
        )
        self._check()

    def _check(self) -> None:
        classes = len(self.class_names)
        if self.counts.shape != (classes,):
            raise ValueError(
                "`counts` must have one entry per class name. Received: shape "
                f"{self.counts.shape} for {classes} names. Pass one count per class."
            )
        if (self.counts < 1).any():
            empty = self.class_names[int(np.argmin(self.counts))]
            raise ValueError(
                "`counts` must be at least 1. Received: "
                f"{int(self.counts.min())} for class {empty!r}. Leave this class out."
            )
        for part in _parts(self.examples):
            if int(self.counts.sum()) != len(part):
                raise ValueError(
                    "`counts` must add up to the number of examples. Received: a sum "
                    f"of {int(self.counts.sum())} for {len(part)} examples. Count "
                    "again, or let `from_arrays` do it."
                )
        if len(set(self.class_names)) != classes:
            twice = next(n for n in self.class_names if self.class_names.count(n) > 1)
            raise ValueError(
                f"`class_names` must be unique. Received: {twice!r} more than once. "
                "Rename or merge those classes."
            )
        if self.groups is not None and len(self.groups) != classes:
            raise ValueError(
                "`groups` must name one group per class. Received: "
                f"{len(self.groups)} groups for {classes} classes. Pass one per class."
            )
        of_examples = None if self.example_groups is None else self.example_groups.shape
        if of_examples not in (None, (self.num_examples,)):
            raise ValueError(
                "`example_groups` must name one group per example. Received: shape "
                f"{of_examples} for {self.num_examples} examples. Pass one per example."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def num_examples(self) -> int:
        """Number of examples of all classes."""
        return int(self.counts.sum())

    def __repr__(self) -> str:
        form = _form(self.examples)
        if not self.num_classes:
            return f"Pool(no classes, examples of {form})"
        low, high = int(self.counts.min()), int(self.counts.max())
        each = f"{low}" if low == high else f"{low} to {high}"
        groups = "" if self.groups is None else f" in {len(set(self.groups))} groups"
        return (
            f"Pool({self.num_classes} classes{groups}, {self.num_examples} examples "
            f"of {form}, {each} per class)"
        )

    def select(self, class_indices: Sequence[int] | npt.NDArray[Any]) -> "Pool":
        """The pool of some classes, in the given order.

        Args:
            class_indices: different ints in `[0, num_classes)`.

        Returns:
            A new `Pool`.

        Raises:
            ValueError: if an index is out of range or repeated.

        >>> pool = from_arrays(np.arange(4.0), [0, 0, 1, 2])
        >>> pool.select([2, 0]).class_names
        ('2', '0')
        """
        indices = np.asarray(class_indices, dtype=np.int64).reshape(-1)
        inside = (indices >= 0) & (indices < self.num_classes)
        if not inside.all() or len(set(indices.tolist())) != len(indices):
            raise ValueError(
                "`class_indices` must be different integers in "
                f"[0, {self.num_classes}). Received: {indices.tolist()[:20]}. "
                "Look up the positions in `pool.class_names`."
            )
        rows = [
            np.arange(self.offsets[c], self.offsets[c] + self.counts[c])
            for c in indices
        ]
        flat = np.concatenate(rows) if rows else np.zeros([0], np.int64)
        return Pool(
            _map(lambda part: _selected(part, flat), self.examples),
            counts=self.counts[indices],
            class_names=[self.class_names[c] for c in indices],
            groups=None if self.groups is None else [self.groups[c] for c in indices],
            example_groups=(
                None if self.example_groups is None else self.example_groups[flat]
            ),
        )

    def drop_smaller_than(self, examples: int) -> "Pool":
        """The pool of the classes with at least `examples` examples.

        Args:
            examples: int, e.g. `shots + queries`.

        Returns:
            A new `Pool`.

        Raises:
            ValueError: if no class has `examples` examples.

        >>> from_arrays(np.arange(3.0), [0, 0, 1]).drop_smaller_than(2).class_names
        ('0',)
        """
        kept = np.flatnonzero(self.counts >= examples)
        if not len(kept):
            largest = int(self.counts.max()) if self.num_classes else 0
            raise ValueError(
                "`examples` must not exceed the largest class. Received: "
                f"{examples}, but the largest class has {largest}. Lower `examples`."
            )
        return self.select(kept)

    def fingerprint(self) -> str:
        """Hexadecimal sha256 of names, groups, sizes and examples, in order.

        Two pools with the same fingerprint give the same episodes from the same seed.
        A pool on disk has the fingerprint of the same pool in memory. Some of its
        classes are identified by the file's hash and their rows: nothing is read.

        >>> len(from_arrays(np.arange(3.0), [0, 0, 1]).fingerprint())
        64
        """
        head = {
            "class_names": self.class_names,
            "groups": self.groups,
            "counts": self.counts.tolist(),
            "form": _form(self.examples),
        }
        if self.example_groups is not None:
            head["example_groups"] = self.example_groups.tolist()
        hashed = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        hashed.update(digest(self.examples))
        return hashed.hexdigest()


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
        _map(lambda part: part[order], x),
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


def _map(function: Callable[[Any], Any], examples: Any) -> Any:
    """The function of the examples, or of each input of a dict by its name."""
    if isinstance(examples, dict):
        return {name: function(examples[name]) for name in sorted(examples)}
    return function(examples)


def _parts(examples: Any) -> list[Any]:
    return list(examples.values()) if isinstance(examples, dict) else [examples]


def _form(examples: Any) -> str:
    if isinstance(examples, dict):
        parts = [f"{name}: {_form(part)}" for name, part in examples.items()]
        return f"{{{', '.join(parts)}}}"
    return f"shape {examples.shape[1:]} {np.dtype(examples.dtype)}"


def _selected(examples: Any, rows: npt.NDArray[Any]) -> Any:
    return examples.select(rows) if isinstance(examples, Rows) else examples[rows]


def _as_examples(name: str, x: Any) -> Any:
    if isinstance(x, Rows):
        return x
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` must be numeric. Received: dtype {x.dtype}{_culprit(x)}. Encode "
            "the data first; `mk.data.from_series` looks words up."
        )
    if x.dtype.kind in "bf":
        x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise ValueError(
                f"`{name}` must be finite. Received: "
                f"{int((~np.isfinite(x)).sum())} NaN or infinite values, the first in "
                f"row {int(np.argwhere(~np.isfinite(x))[0][0])}. Remove or replace "
                "these values first."
            )
    examples: npt.NDArray[Any] = np.ascontiguousarray(x).view()
    examples.flags.writeable = False
    return examples


def _culprit(x: npt.NDArray[Any]) -> str:
    """The first row of an array of objects that holds no number, for a message."""
    for place, value in np.ndenumerate(x) if x.dtype == object else ():
        if not isinstance(value, (int, float, np.number)):
            return f", with {value!r:.40} in row {place[0]}"
    return ""
