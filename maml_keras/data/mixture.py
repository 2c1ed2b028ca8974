"""`Mixture`: each task comes from one of several families."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import tensorflow as tf

from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.family_pools import pools_of
from maml_keras.data.seeds import as_seed


@final
class Mixture(TaskFamily):
    """Tasks of several families, each task from one family by chance.

    `P(family i) = weights[i] / sum(weights)`

    Only the examples of the drawn families are gathered.

    Args:
        families: two or more families, whose tasks have the same keys, shapes and
            types.
        weights: None for equal chances, or one positive number for each family.

    Raises:
        ValueError: if the families or the weights do not fit each other.

    >>> from maml_keras.data import Sinusoid
    >>> slow, fast = Sinusoid(x=(-5.0, 0.0)), Sinusoid(x=(0.0, 5.0))
    >>> tasks = Mixture([slow, fast], weights=[1, 3])
    >>> task, _ = tasks.sample_many([0, 1], 1000)
    >>> 0.7 < float((task["support_x"][:, 0, 0] > 0).numpy().mean()) < 0.8
    True
    """

    def __init__(
        self, families: Sequence[TaskFamily], *, weights: Sequence[float] | None = None
    ) -> None:
        self.families = tuple(families)
        if len(self.families) < 2 or not all(
            isinstance(family, TaskFamily) for family in self.families
        ):
            raise ValueError(
                "`families` must be two or more task families. Received: "
                f"{families!r}. Pass e.g. [NWayKShot(a, ...), NWayKShot(b, ...)]."
            )
        shares = np.ones(len(self.families)) if weights is None else np.array(weights)
        fits = shares.shape == (len(self.families),)
        if not fits or not np.isfinite(shares).all() or (shares <= 0).any():
            raise ValueError(
                "`weights` must be one positive number for each family. Received: "
                f"weights={weights!r} for {len(self.families)} families."
            )
        self.weights = tuple((shares / shares.sum()).tolist())
        self.chunk = max(family.chunk for family in self.families)
        # The class number of each family's first class; labels of tasks begin at 0.
        self._first_numbers = (0,) * len(self.families)
        _check_alike(self.families)

    def __repr__(self) -> str:
        return f"Mixture({list(self.families)!r}, weights={list(self.weights)})"

    def distinct_tasks(self) -> int | None:
        """The sum over all families; None if one of them does not know its number."""
        counts = [family.distinct_tasks() for family in self.families]
        return None if None in counts else sum(c for c in counts if c is not None)

    def class_numbers(self) -> ClassNumbers:
        """The same tasks with labels that mean the same class in every task.

        Families that draw from the same pools share their class numbers. The numbers of
        the next family with other pools follow.

        >>> from maml_keras.data import NWayKShot, from_arrays
        >>> x, y = np.arange(6.0), [0, 0, 1, 1, 2, 2]
        >>> one, other = (
        ...     NWayKShot(from_arrays(x, y), ways=2, shots=1, queries=1)
        ...     for _ in range(2)
        ... )
        >>> Mixture([one, other]).class_numbers().num_classes
        6
        >>> Mixture([one, one]).class_numbers().num_classes
        3
        """
        numbers = [family.class_numbers() for family in self.families]
        pools = [tuple(map(id, pools_of(f))) or (id(f),) for f in self.families]
        sizes: dict[Any, int] = {}
        for of, found in zip(pools, numbers):
            sizes[of] = max(sizes.get(of, 0), found.num_classes)
        firsts = dict(zip(sizes, itertools.accumulate([0, *sizes.values()])))
        other = copy.copy(self)
        other.families = tuple(found.tasks for found in numbers)
        other._first_numbers = tuple(firsts[of] for of in pools)
        return ClassNumbers(other, sum(sizes.values()))

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks, each from its own family."""
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """The family of each task, and the plans of all families."""
        seeds = tf.unstack(tf.random.split(as_seed(seed), len(self.families) + 1))
        logits = tf.math.log(tf.constant([self.weights], tf.float32))
        choice = tf.random.stateless_categorical(logits, count, seeds[0], tf.int32)[0]
        plans = (f.plan(s, count) for f, s in zip(self.families, seeds[1:]))
        return {"choice": choice, "plans": tuple(plans)}

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan, each filled by its own family."""
        choice = plan["choice"]
        rows = tf.dynamic_partition(
            tf.range(tf.size(choice)), choice, len(self.families)
        )
        parts = [
            family.fill(
                tf.nest.map_structure(lambda t, own=own: tf.gather(t, own), one)
            )
            for family, one, own in zip(self.families, plan["plans"], rows)
        ]
        parts = [_counted(*pair) for pair in zip(parts, self._first_numbers)]

        def stitched(*leaves: Any) -> Any:
            together = tf.dynamic_stitch(rows, leaves)
            together.set_shape([choice.shape[0], *leaves[0].shape[1:]])
            return together

        episodes: Episode = tf.nest.map_structure(stitched, *parts)
        return episodes


def _counted(episode: Episode, first: int) -> Episode:
    """The episode with class numbers that begin at `first`."""
    if not first:
        return episode
    task, query_y = episode
    return {**task, "support_y": task["support_y"] + first}, query_y + first


def _check_alike(families: Sequence[TaskFamily]) -> None:
    """Refuses families whose tasks do not fit into one batch."""
    first, *others = map(_form, families)
    for family, form in zip(families[1:], others):
        for name in sorted(first.keys() | form.keys()):
            if first.get(name) != form.get(name):
                raise ValueError(
                    "`families` must have tasks of the same keys, shapes and types. "
                    f"Received: `{name}` {_shown(first.get(name))} from "
                    f"{families[0]!r}, but {_shown(form.get(name))} from {family!r}. "
                    "Give them the same sizes, and images the same `size`."
                )


def _form(family: TaskFamily) -> dict[str, Any]:
    traced = tf.function(
        lambda seed: family.fill(family.plan(seed, 1)), autograph=False
    ).get_concrete_function(tf.TensorSpec([2], tf.int64))
    task, query_y = traced.structured_outputs
    entries = {**task, "query_y": query_y}
    return {
        name: [(tuple(t.shape[1:]), t.dtype.name) for t in tf.nest.flatten(value)]
        for name, value in entries.items()
    }


def _shown(leaves: Any) -> str:
    if leaves is None:
        return "missing"
    return " and ".join(f"{list(shape)} {dtype}" for shape, dtype in leaves)
