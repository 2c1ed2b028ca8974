"""Finds the same example in two parts of a split."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from maml_keras.data.pool import Pool
from maml_keras.data.rows import row_keys


def warn_of_shared_rows(parts: Mapping[str, Pool]) -> None:
    """Warns of examples that training and another part have in common.

    Such copies make test figures too good: the network has seen them under another
    name. Examples of a single value, such as empty images, are not judged.

    Args:
        parts: the pools by the names of their parts, with `"train"` among them.
    """
    known = _rows(parts["train"])
    for name, pool in parts.items():
        if name == "train":
            continue
        theirs = _rows(pool)
        both = [theirs[key] for key in theirs if key in known]
        varied = [row for row in both if _is_varied(pool.examples, row)]
        if not varied:
            continue
        key = next(key for key, row in theirs.items() if row == varied[0])
        copy, original = (
            p.class_names[int(np.searchsorted(p.offsets, row, side="right")) - 1]
            for p, row in ((pool, varied[0]), (parts["train"], known[key]))
        )
        warnings.warn(
            f"{len(varied)} different examples are in train and in {name}, for "
            f"instance one of class {original!r} and of class {copy!r}. Results on "
            f"{name} are too good. Merge classes that have two names, and remove "
            "copies.",
            stacklevel=3,
        )


def _rows(pool: Pool) -> dict[int, int]:
    """The key of each different example, with its row."""
    return {key: row for row, key in enumerate(row_keys(pool.examples).tolist())}


def _is_varied(examples: Any, row: int) -> bool:
    """Whether an example has more than one value."""
    if isinstance(examples, dict):
        return any(_is_varied(part, row) for part in examples.values())
    example = examples[np.array([row])]
    return bool(example.min() != example.max())
