"""`Pool`: labelled examples grouped by class."""

import copy
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

    Attributes:
        preparation: an `ImagePreparation` or a `TextPreparation`, or None.
            `prepared_by` sets it.

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
        self.preparation: Any = None
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

        >>> pool = Pool(np.arange(4.0), counts=[2, 1, 1], class_names=list("abc"))
        >>> pool.select([2, 0]).class_names
        ('c', 'a')
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
        chosen = Pool(
            of_each(lambda part: _selected(part, flat), self.examples),
            counts=self.counts[indices],
            class_names=[self.class_names[c] for c in indices],
            groups=None if self.groups is None else [self.groups[c] for c in indices],
            example_groups=(
                None if self.example_groups is None else self.example_groups[flat]
            ),
        )
        chosen.preparation = self.preparation
        return chosen

    def prepared_by(self, preparation: Any) -> "Pool":
        """The same examples with a preparation that was fitted on training classes.

        `NWayKShot` prepares the examples of its tasks, a model that is trained on them
        keeps the preparation, and its export takes raw images or texts. `to_disk` keeps
        the examples without their preparation.

        Args:
            preparation: an `ImagePreparation` or a `TextPreparation`, or None.

        Raises:
            ValueError: if the examples are not of its kind.
        """
        if preparation is not None:
            preparation.check(self)
        other = copy.copy(self)
        other.preparation = preparation
        return other

    def drop_smaller_than(self, examples: int) -> "Pool":
        """The pool of the classes with at least `examples` examples.

        Args:
            examples: int, e.g. `shots + queries`.

        Returns:
            A new `Pool`.

        Raises:
            ValueError: if no class has `examples` examples.

        >>> pool = Pool(np.arange(3.0), counts=[2, 1], class_names=["a", "b"])
        >>> pool.drop_smaller_than(2).class_names
        ('a',)
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

        >>> pool = Pool(np.arange(3.0), counts=[2, 1], class_names=["a", "b"])
        >>> len(pool.fingerprint())
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
        if self.preparation is not None:
            head["preparation"] = self.preparation.get_config()
        hashed = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        hashed.update(digest(self.examples))
        return hashed.hexdigest()


def of_each(function: Callable[[Any], Any], examples: Any) -> Any:
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
