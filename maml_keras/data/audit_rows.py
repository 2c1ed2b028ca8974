"""Checks of stored examples: the same rows in two parts, in two classes, twice."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from maml_keras.data.audit_report import Finding
from maml_keras.data.pool import Pool
from maml_keras.data.rows import row_keys

# From this share of a part on, common rows are a leak; fewer are looked at.
LEAK = 0.01
# A class is another class if this share of its rows is in the other.
SAME_CLASS = 0.5
# If more rows than this share come twice within training, rows coincide by chance.
COINCIDENCE = 0.1
# Classes that differ more in size are noted.
IMBALANCE = 10.0
EVERYWHERE = "Remove copies, and merge classes that have two names, before the split."


class HashedPool:
    """The rows of a pool as keys; examples of a single value are not judged.

    Attributes:
        pool: the pool.
        hashes: dict of the first row with each key.
        repeated: int, how many rows repeat another row of their class.
        two_classes: list of pairs of row numbers: one example in two classes.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.hashes: dict[int, int] = {}
        self.repeated = 0
        self.two_classes: list[tuple[int, int]] = []
        for row, key in enumerate(row_keys(pool.examples).tolist()):
            first = self.hashes.setdefault(key, row)
            if first == row or not self.is_varied(row):
                continue
            if self.class_of(first) == self.class_of(row):
                self.repeated += 1
            else:
                self.two_classes.append((first, row))

    def is_varied(self, row: int) -> bool:
        """Whether an example has more than one value, unlike an empty image."""
        return _is_varied(self.pool.examples, row)

    def class_of(self, row: int) -> int:
        """The class of a row."""
        return int(np.searchsorted(self.pool.offsets, row, side="right")) - 1

    def name_of(self, row: int) -> str:
        """The name of the class of a row."""
        return self.pool.class_names[self.class_of(row)]


def _is_varied(examples: Any, row: int) -> bool:
    if isinstance(examples, dict):
        return any(_is_varied(part, row) for part in examples.values())
    example = examples[np.array([row])]
    return bool(example.min() != example.max())


def shared_rows(parts: Mapping[str, HashedPool]) -> list[Finding]:
    """Examples, and whole classes, that training and another part have in common.

    Such copies make test figures too good: the network has seen them under another
    name.

    Args:
        parts: the pools by the names of their parts, with `"train"` among them.
    """
    train, found = parts["train"], []
    for name, other in parts.items():
        if name == "train":
            continue
        both = [key for key in other.hashes if key in train.hashes]
        both = [key for key in both if other.is_varied(other.hashes[key])]
        if not both:
            continue
        pairs = [(train.hashes[key], other.hashes[key]) for key in both]
        ours, theirs = train.name_of(pairs[0][0]), other.name_of(pairs[0][1])
        what = (
            f"{len(both)} different examples are in train and in {name}, for instance "
            f"one of class {ours!r} and of class {theirs!r}. Results on {name} are too "
            "good."
        )
        by_chance = train.repeated + len(train.two_classes) > COINCIDENCE * max(
            1, train.pool.num_examples
        )
        same = _common_classes(train, other, pairs)
        if same:
            first, second, count = same[0]
            what += (
                f" {len(same)} classes are in both parts: class {first!r} of train and "
                f"class {second!r} of {name} have {count} examples in common."
            )
        leaks = same or len(both) >= LEAK * len(other.hashes)
        found.append(
            Finding(
                "leak" if leaks and not by_chance else "warning",
                "shared classes" if same else "shared rows",
                what,
                EVERYWHERE,
            )
        )
    return found


def _common_classes(
    train: HashedPool, other: HashedPool, pairs: list[tuple[int, int]]
) -> list[tuple[str, str, int]]:
    """Pairs of classes with most examples in common, and how many."""
    counts = collections.Counter(
        (train.class_of(a), other.class_of(b)) for a, b in pairs
    )
    return [
        (train.pool.class_names[a], other.pool.class_names[b], count)
        for (a, b), count in counts.most_common()
        if count >= SAME_CLASS * min(train.pool.counts[a], other.pool.counts[b])
    ]


def warn_of_shared_rows(parts: Mapping[str, Pool]) -> None:
    """Warns of examples that training and another part of a split have in common.

    Args:
        parts: the pools by the names of their parts, with `"train"` among them.
    """
    hashed = {name: HashedPool(pool) for name, pool in parts.items()}
    for found in shared_rows(hashed):
        warnings.warn(str(found), stacklevel=3)


def shared_names(parts: Mapping[str, tuple[str, ...]], unit: str) -> list[Finding]:
    """Names that training and another part have in common.

    Numbers are no names: two pools that were made by themselves both begin at 0.
    """
    train, found = set(parts["train"]), []
    units = "classes" if unit == "class" else f"{unit}s"
    for name, names in parts.items():
        both = sorted(train & set(names)) if name != "train" else []
        both = [n for n in both if not n.isdigit()]
        if both:
            found.append(
                Finding(
                    "leak" if unit == "task" else "warning",
                    f"shared {unit} names",
                    f"{len(both)} {unit} names are in train and in {name}, such as "
                    f"{both[0]!r}.",
                    f"Split whole {units}; rename a {unit} if it is another one.",
                )
            )
    return found


def within_part(name: str, hashed: HashedPool) -> list[Finding]:
    """Copies inside a class, one example in two classes, and sizes of classes."""
    found, pool = [], hashed.pool
    if hashed.repeated:
        found.append(
            Finding(
                "warning",
                "copies in a class",
                f"{hashed.repeated} of {pool.num_examples} examples of {name} repeat "
                "another one of their class, so a query can be a copy of a support "
                "example.",
                "Remove the copies.",
            )
        )
    if hashed.two_classes:
        one, other = hashed.two_classes[0]
        found.append(
            Finding(
                "warning",
                "two labels",
                f"{len(hashed.two_classes)} examples of {name} are in two classes, for "
                f"instance in {hashed.name_of(one)!r} and {hashed.name_of(other)!r}.",
                "Merge the classes, or remove the examples.",
            )
        )
    smallest, largest = (
        (pool.counts.min(), pool.counts.max()) if pool.num_classes else (1, 1)
    )
    if largest > IMBALANCE * smallest:
        found.append(
            Finding(
                "note",
                "balance",
                f"The classes of {name} have {smallest} to {largest} examples. "
                "Episodes draw all classes alike.",
                "`NWayKShot(shots=mk.data.ImbalancedShots())` draws support sets that "
                "follow the sizes of the classes.",
            )
        )
    return found


def scales(parts: Mapping[str, Any]) -> list[Finding]:
    """Parts whose numbers differ in size, columns of unlike size, constant columns.

    Args:
        parts: arrays `[n, ...]` of some examples of each part.
    """
    found = []
    spread = {n: float(np.std(x)) for n, x in parts.items() if x.dtype.kind in "iuf"}
    for name, value in spread.items():
        ratio = (value + 1e-12) / (spread["train"] + 1e-12)
        if not 0.1 < ratio < 10:
            found.append(
                Finding(
                    "fault",
                    "scale of parts",
                    f"The numbers of {name} spread {ratio:.3g} times as far as those "
                    f"of train: up to {np.abs(parts[name]).max():g}, in train up to "
                    f"{np.abs(parts['train']).max():g}.",
                    "Prepare all parts alike, with the numbers of the training part.",
                )
            )
    train = parts["train"]
    if train.dtype.kind != "f":
        return found
    if train.ndim >= 3 and train.max() > 2 and train.max() > 128:
        found.append(
            Finding(
                "warning",
                "scale",
                f"The images are floats up to {train.max():g}, and nothing scales "
                "them.",
                "Keep images as bytes (`uint8`), which episodes scale to [0, 1], or "
                "divide by 255.",
            )
        )
    if train.ndim == 2 and len(train) > 1:
        found += _columns(train)
    return found


def _columns(train: Any) -> list[Finding]:
    """Columns of a table that do not vary, or that drown the others."""
    found = []
    deviations = train.std(axis=0)
    constant = np.flatnonzero(deviations == 0)
    if len(constant):
        found.append(
            Finding(
                "note",
                "constant columns",
                f"{len(constant)} of {train.shape[1]} inputs have one value in train, "
                f"the first in column {constant[0]}.",
                "Leave them out.",
            )
        )
    varied = deviations[deviations > 0]
    if len(varied) and varied.max() > 1000 * varied.min():
        found.append(
            Finding(
                "warning",
                "scale",
                f"Column {int(deviations.argmax())} spreads {varied.max():.3g}, and "
                f"another {varied.min():.3g}: inner steps need inputs of one size.",
                "Standardise each column by the training part, or begin the network "
                "with an adapted `keras.layers.Normalization`.",
            )
        )
    elif np.abs(train).max() > 1000:
        found.append(
            Finding(
                "warning",
                "scale",
                f"The inputs are numbers up to {np.abs(train).max():g}.",
                "Standardise each column by the training part, or begin the network "
                "with an adapted `keras.layers.Normalization`.",
            )
        )
    return found
