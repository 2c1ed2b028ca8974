"""`audit`: looks for leaks and faults in the data of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data import audit_episodes, audit_rows
from maml_keras.data.audit_episodes import Drawn
from maml_keras.data.audit_report import AuditReport, Finding, report
from maml_keras.data.audit_rows import HashedPool
from maml_keras.data.episodes import episodes
from maml_keras.data.family import TaskFamily
from maml_keras.data.family_pools import pools_of
from maml_keras.data.near_copies import near_copies
from maml_keras.data.plain_errors import plainly
from maml_keras.data.pool import Pool
from maml_keras.data.preparation import preparation_of
from maml_keras.data.rows import Rows
from maml_keras.data.task_table import TaskTable

# Rows of a part by which its numbers are judged.
JUDGED = 2000
# `fit` hashes at most this many bytes of examples.
CHEAP = 2**28


def audit(
    train: Any, validation: Any = None, test: Any = None, *, num_tasks: int = 256
) -> AuditReport:
    """Looks for leaks and faults in training, validation and test data.

    Of pools: examples and classes in two parts by their content, near-copies of images,
    copies within a class, one example in two classes, sizes of classes, the size of
    numbers, also between parts. Of task families and batches, in `num_tasks` tasks:
    support examples among the queries, labels that position tells, NaN, classes
    without support, few different tasks. A family's pools are looked at, too.

    Args:
        train: a `Pool`, a `TaskTable`, a `TaskFamily`, the dataset that `episodes`
            makes, or an iterable of batches `(task, query_y)`.
        validation: like `train`, or None.
        test: like `train`, or None.
        num_tasks: int, how many tasks are drawn of each part.

    Returns:
        An `AuditReport`. `print` shows it; `report.raise_if_leaking()` ends a script
        that must not go on with a leak.

    Raises:
        ValueError: if a part is of another kind.

    >>> from maml_keras.data import from_arrays
    >>> x = np.random.default_rng(0).random([60, 8, 8, 1])
    >>> pool = from_arrays(x, np.arange(60) % 6)
    >>> found = audit(pool.select([0, 1, 2, 3]), test=pool.select([3, 4, 5]))
    >>> [f.check for f in found.leaks]
    ['shared classes']
    """
    given = {"train": train, "validation": validation, "test": test}
    parts = {
        n: _Part(n, data, num_tasks) for n, data in given.items() if data is not None
    }
    pools = {n: p.pools for n, p in parts.items()}
    hashed = {n: [HashedPool(pool) for pool in found] for n, found in pools.items()}
    findings = _between(hashed)
    for name, part in parts.items():
        for one in hashed[name]:
            findings += audit_rows.within_part(name, one)
        if part.drawn is not None:
            findings += audit_episodes.of_tasks(part.drawn)
        findings += audit_episodes.few_tasks(name, part.distinct_tasks, part.drawn)
    for both in _together(hashed):
        findings += near_copies(both)
    tables = {n: p.table.names for n, p in parts.items() if p.table is not None}
    if "train" in tables:
        findings += audit_rows.shared_names(tables, "task")
    samples = {n: p.sample() for n, p in parts.items()}
    samples = {n: x for n, x in samples.items() if x is not None}
    if "train" in samples:
        findings += audit_rows.scales(samples)
    return report({n: p.described() for n, p in parts.items()}, findings)


def of_training(train: Any, validation: Any) -> list[Finding]:
    """What `fit` looks for: a cheap part of `audit`, without drawing a task.

    Args:
        train: what `fit` received; only datasets of `episodes` tell their family.
        validation: the validation data, or None.
    """
    family, other = map(_family, (train, validation))
    if family is None:
        return []
    findings = audit_episodes.few_tasks("training", family.distinct_tasks(), None)
    pools = {"train": pools_of(family)}
    if other is not None:
        pools["validation"] = pools_of(other)
        size = sum(_bytes(pool) for found in pools.values() for pool in found)
        if size <= CHEAP and all(pools.values()):
            hashed = {n: [HashedPool(p) for p in found] for n, found in pools.items()}
            for one in _together(hashed):
                findings += audit_rows.shared_rows(one)
    return findings


def _between(hashed: Mapping[str, list[HashedPool]]) -> list[Finding]:
    """Findings between parts, of each pool of training with each of another part."""
    findings = []
    for one in _together(hashed):
        findings += audit_rows.shared_rows(one)
        names = {name: part.pool.class_names for name, part in one.items()}
        if not any(f.check == "shared classes" for f in findings):
            findings += audit_rows.shared_names(names, "class")
    return findings


def _together(
    hashed: Mapping[str, list[HashedPool]],
) -> list[dict[str, HashedPool]]:
    """Each pool of training with each pool of another part."""
    return [
        {"train": ours, name: theirs}
        for name, found in hashed.items()
        if name != "train"
        for ours in hashed.get("train", [])
        for theirs in found
    ]


def _family(data: Any) -> TaskFamily | None:
    """The family itself, or the one of a dataset that `episodes` made."""
    found = data if isinstance(data, TaskFamily) else getattr(data, "tasks", None)
    return found if isinstance(found, TaskFamily) else None


def _bytes(pool: Pool) -> float:
    """The size of a pool in memory; infinite if its examples lie elsewhere."""
    parts = pool.examples
    arrays = parts.values() if isinstance(parts, dict) else [parts]
    return sum(
        float("inf") if isinstance(part, Rows) else part.nbytes for part in arrays
    )


class _Part:
    """A part of the data: its pools, and some of its tasks."""

    def __init__(self, name: str, data: Any, num_tasks: int) -> None:
        self.name, self.data = name, data
        self.table = data if isinstance(data, TaskTable) else None
        self.pools = [data] if isinstance(data, Pool) else []
        self.drawn: Drawn | None = None
        self.distinct_tasks: int | None = None
        family = _family(data)
        if family is not None:
            self.pools = pools_of(family)
            self.table = getattr(family, "table", None)
            self.distinct_tasks = family.distinct_tasks()
            data = episodes(
                family, batch_size=min(32, num_tasks), seed=0, num_episodes=num_tasks
            )
        if isinstance(data, (Pool, TaskTable)):
            return
        if not isinstance(data, Iterable) or isinstance(data, (str, dict)):
            raise ValueError(
                f"`{name}` must be a Pool, a TaskTable, a TaskFamily, or batches "
                f"(task, query_y). Received: {data!r} of type {type(data).__name__}."
            )
        own = preparation_of(data)
        self.drawn = Drawn(
            name,
            _first_tasks(name, data, num_tasks),
            masked=getattr(own, "missing_target", None) == "mask",
        )

    def sample(self) -> Any:
        """Some examples `[n, ...]`; None for several inputs and raw tables."""
        if self.drawn is not None:
            x = self.drawn.arrays["support_x"]
            if isinstance(x, dict) or not np.isfinite(x).all():
                return None
            return x.reshape(-1, *x.shape[2:])[:JUDGED]
        if not self.pools or isinstance(self.pools[0].examples, dict):
            return None
        pool = self.pools[0]
        rows = np.linspace(0, pool.num_examples - 1, min(JUDGED, pool.num_examples))
        x = np.asarray(pool.examples[rows.astype(int)])
        return x / np.float32(255) if x.dtype == np.uint8 and x.ndim >= 3 else x

    def described(self) -> str:
        """One line: what was looked at."""
        of_tasks = (
            "" if self.drawn is None else f"{len(self.drawn.arrays['query_y'])} tasks"
        )
        what = [repr(pool) for pool in self.pools]
        if self.table is not None:
            what.append(repr(self.table))
        return "; ".join(filter(None, [*what, of_tasks]))


def _plainly(batches: Any) -> Iterator[Any]:
    with plainly():
        yield from batches


def _first_tasks(name: str, batches: Any, num_tasks: int) -> dict[str, Any]:
    """The arrays of the first tasks of batches."""
    taken: list[Any] = []
    for batch in _plainly(batches):
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if not isinstance(task, dict) or query_y is None:
            raise ValueError(
                f"`{name}` must hold batches (task, query_y), with task a dict of "
                f"support_x, support_y and query_x. Received: {type(task).__name__}."
            )
        arrays = tf.nest.map_structure(np.asarray, {**task, "query_y": query_y})
        taken.append(arrays)
        if sum(len(tf.nest.flatten(one)[0]) for one in taken) >= num_tasks:
            break
    if not taken:
        raise ValueError(f"`{name}` must hold at least one batch. Received: none.")
    # Batches of another size do not stack, so only those like the first count.
    shapes = [[t.shape[1:] for t in tf.nest.flatten(one)] for one in taken]
    alike = [one for one, shape in zip(taken, shapes) if shape == shapes[0]]
    joined: dict[str, Any] = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts)[:num_tasks], *alike
    )
    return joined
