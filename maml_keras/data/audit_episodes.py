"""Checks of drawn tasks: shared examples, labels told by position, numbers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from maml_keras.data.audit_report import Finding

# A share of labels this many standard deviations from its expectation is no chance.
SIGMA = 6.0
# One class with more than this share of the queries decides an accuracy.
MAJORITY = 0.9
# Fewer different support sets than these can be learned by heart.
FEW_TASKS = 100


class Drawn(NamedTuple):
    """Some tasks of a part.

    Attributes:
        name: str, the part.
        arrays: dict of arrays `[tasks, examples, ...]`, or nests of them: `support_x`,
            `support_y`, `query_x`, `query_y`, and weights if there are.
        masked: bool, whether a missing target is NaN on purpose.
    """

    name: str
    arrays: dict[str, Any]
    masked: bool = False

    def there(self, part: str) -> Any:
        """Which examples of `"support"` or `"query"` are no padding."""
        weight = self.arrays.get(f"{part}_weight")
        shape = tf.nest.flatten(self.arrays[f"{part}_y"])[0].shape[:2]
        return np.ones(shape, bool) if weight is None else weight != 0

    def labels(self, part: str) -> Any:
        """Class numbers `[tasks, examples]`; None for numbers and several outputs."""
        y = self.arrays[f"{part}_y"]
        if tf.nest.is_nested(y):
            return None
        y = y[..., 0] if y.ndim == 3 and y.shape[2] == 1 else y
        return y if y.ndim == 2 and y.dtype.kind in "iu" else None


def of_tasks(drawn: Drawn) -> list[Finding]:
    """All findings in drawn tasks.

    Args:
        drawn: tasks of a part.
    """
    found = _not_finite(drawn)
    if found:
        return found
    found = _support_in_queries(drawn)
    for part in ("support", "query"):
        found += _position(drawn, part)
    return found + _classes(drawn)


def _not_finite(drawn: Drawn) -> list[Finding]:
    found = []
    leaves = [(k, a) for k, v in drawn.arrays.items() for a in tf.nest.flatten(v)]
    for key, array in leaves:
        if drawn.masked and key.endswith("_y"):
            continue
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array)
            found.append(
                Finding(
                    "fault",
                    "NaN",
                    f"{int(bad.sum())} of {array.size} values of {key} in {drawn.name} "
                    f"are NaN or infinite, the first in task {np.argwhere(bad)[0][0]}.",
                    "Remove or replace these values.",
                )
            )
    return found


def _keys(x: Any, there: Any) -> list[set[int]]:
    """Hashes of the examples of each task; no padding, and nothing of one value."""
    flat = x.reshape(*x.shape[:2], -1)
    varied = there & (flat.min(axis=2) != flat.max(axis=2))
    return [
        {hash(row.tobytes()) for row in rows[kept]} for rows, kept in zip(flat, varied)
    ]


def _support_in_queries(drawn: Drawn) -> list[Finding]:
    """Support examples that are queries of the same task, too."""
    x = {part: drawn.arrays[f"{part}_x"] for part in ("support", "query")}
    if any(isinstance(value, dict) for value in x.values()):
        return []
    support, query = (_keys(x[part], drawn.there(part)) for part in x)
    both = [len(a & b) for a, b in zip(support, query)]
    tasks = sum(map(bool, both))
    if not tasks:
        return []
    total = sum(map(len, query))
    leaks = sum(both) >= 0.01 * total
    return [
        Finding(
            "leak" if leaks else "warning",
            "support in queries",
            f"{sum(both)} of {total} queries of {drawn.name} are support examples of "
            f"their task, in {tasks} of {len(both)} tasks.",
            "Draw support and query examples without replacement, and remove copies "
            "from the data.",
        )
    ]


def _position(drawn: Drawn, part: str) -> list[Finding]:
    """Labels that the position of an example tells."""
    labels, there = drawn.labels(part), drawn.there(part)
    if labels is None or not there.all():
        return []  # Padded sets are shuffled before they are padded.
    tasks, examples = labels.shape
    ways = int(labels.max()) + 1
    shares = np.stack([(labels == c).mean(axis=0) for c in range(ways)])
    expected = np.stack([(labels == c).mean() for c in range(ways)])[:, None]
    # Chernoff's bound holds for any number of tasks, also for two: a share `q` of `n`
    # draws of probability `p` has a probability of at most `exp(-n KL(q, p))`.
    surprise = tasks * (_terms(shares, expected) + _terms(1 - shares, 1 - expected))
    if examples > 1 and (surprise > SIGMA**2 / 2).any():
        # The class that the clearest position tells.
        c, position = np.unravel_index(np.argmax(shares - expected), shares.shape)
        return [
            Finding(
                "leak",
                "labels by position",
                f"The position of an example tells its label: place {position} of "
                f"{part}_y in {drawn.name} is class {c} in {shares[c, position]:.0%} "
                f"of {tasks} tasks, while {expected[c, 0]:.0%} of all labels are.",
                "Shuffle the examples of each set, and number the classes of each task "
                "at random.",
            )
        ]
    return _neighbours(drawn, part, labels)


def _terms(q: Any, p: Any) -> Any:
    """`q log(q / p)`, which is zero for `q = 0`."""
    ratio = np.divide(q, p, out=np.ones_like(q), where=(q > 0) & (p > 0))
    return q * np.log(ratio)


def _neighbours(drawn: Drawn, part: str, labels: Any) -> list[Finding]:
    """Sets whose examples are sorted by class."""
    examples = labels.shape[1]
    if examples < 4:
        return []
    same = float((labels[:, 1:] == labels[:, :-1]).mean())
    ordered = np.sort(labels, axis=1)
    if_sorted = float((ordered[:, 1:] == ordered[:, :-1]).mean())
    pairs = np.stack([(labels == c).sum(axis=1) for c in np.unique(labels)])
    by_chance = float((pairs * (pairs - 1)).sum(0).mean() / (examples * (examples - 1)))
    noise = SIGMA * math.sqrt(0.25 / labels[:, 1:].size)
    if if_sorted - by_chance < 2 * noise or same < (if_sorted + by_chance) / 2:
        return []
    return [
        Finding(
            "warning",
            "order",
            f"The examples of {part}_x in {drawn.name} are sorted by class: "
            f"{same:.0%} of neighbours have the same label, {by_chance:.0%} would by "
            "chance. A network that sees the set together can read its classes off.",
            "Shuffle the examples of each set.",
        )
    ]


def _classes(drawn: Drawn) -> list[Finding]:
    """Queries of classes without support, and a class that most queries have."""
    support, query = drawn.labels("support"), drawn.labels("query")
    if support is None or query is None:
        return []
    found = []
    rows = list(zip(support, drawn.there("support"), query, drawn.there("query")))
    missing = sum(bool(set(q[t].tolist()) - set(s[p].tolist())) for s, p, q, t in rows)
    if missing:
        found.append(
            Finding(
                "fault",
                "classes without support",
                f"{missing} of {len(rows)} tasks of {drawn.name} ask for a class that "
                "their support set does not show.",
                "Draw support examples of each class of a task.",
            )
        )
    shares = [
        np.unique(q[t], return_counts=True)[1].max() / t.sum() for *_, q, t in rows
    ]
    if np.mean(shares) > MAJORITY:
        found.append(
            Finding(
                "warning",
                "balance",
                f"{np.mean(shares):.0%} of the queries of a task of {drawn.name} have "
                "the same class, so always guessing it is right as often.",
                "Draw as many queries of each class, or report another metric.",
            )
        )
    return found


def few_tasks(name: str, count: int | None, drawn: Drawn | None) -> list[Finding]:
    """A family that has only few different tasks.

    Args:
        name: the part.
        count: how many different support sets there are; None if not known.
        drawn: some tasks, which tell if `count` does not.
    """
    if count is None and drawn is not None:
        x = drawn.arrays["support_x"]
        if not isinstance(x, dict):
            seen = {hash(np.sort(t.reshape(len(t), -1), axis=0).tobytes()) for t in x}
            # Each came about ten times: there are hardly more.
            count = len(seen) if len(seen) * 10 <= len(x) else None
    if count is None or count >= FEW_TASKS:
        return []
    return [
        Finding(
            "warning",
            "few tasks",
            f"The family of {name} allows only {count} different support sets, so the "
            "network may learn them by heart.",
            "Add classes or examples to the pool, or lower `ways`. "
            "`rotate_classes=True` makes more classes of square images.",
        )
    ]
