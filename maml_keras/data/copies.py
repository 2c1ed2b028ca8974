"""Finds the same example in two parts of a split."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from maml_keras.data.pool import Pool


def warn_of_shared_rows(parts: Mapping[str, Pool]) -> None:
    """Warns of examples that training and another part have in common.

    Such copies make test figures too good: the network has seen them under another
    name. Examples of a single value, such as empty images, are not judged.

    Args:
        parts: the pools by the names of their parts, with `"train"` among them.
    """
    known = _rows(parts["train"])
    for name, pool in parts.items():
        both = [row for row in _rows(pool) if row in known] if name != "train" else []
        if not both:
            continue
        theirs, ours = (
            p.class_names[int(np.searchsorted(p.offsets, row, side="right")) - 1]
            for p, row in (
                (pool, _rows(pool)[both[0]]),
                (parts["train"], known[both[0]]),
            )
        )
        warnings.warn(
            f"{len(both)} different examples are in train and in {name}, for instance "
            f"one of class {ours!r} and of class {theirs!r}. Results on {name} are too "
            "good. Merge classes that have two names, and remove copies.",
            stacklevel=3,
        )


def _rows(pool: Pool) -> dict[Any, int]:
    """A hash of each example that has more than one value, with its row."""
    if not pool.examples.size:  # A part of the split may be empty.
        return {}
    flat = pool.examples.reshape(len(pool.examples), -1)
    varied = np.flatnonzero(flat.min(axis=1) != flat.max(axis=1))
    return {hash(flat[row].tobytes()): int(row) for row in varied}
