"""`WithoutReplacement`: each class and each example once in an epoch."""

from typing import Any, final

import tensorflow as tf

from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.few_shot import NWayKShot
from maml_keras.data.rankings import ranking
from maml_keras.data.seeds import as_seed
from maml_keras.data.task_sizes import WholeSizes


@final
class WithoutReplacement(TaskFamily):
    """The tasks of an `NWayKShot`, drawn without replacement over an epoch.

    An epoch goes through all classes `r = min_c floor(n_c / (shots + queries))` times,
    each time in a new random order of C classes that is cut into `floor(C / ways)`
    tasks. No example comes twice in an epoch. Episodes of an epoch are those with
    indices `e * epoch ... (e + 1) * epoch - 1`, and the order of an epoch is a pure
    function of the seed and e, so a run resumes in the midst of one. Where `ways` does
    not divide the number of classes, each round leaves out other classes by chance.

    Args:
        tasks: an `NWayKShot` with whole numbers for `ways`, `shots` and `queries`, and
            without `within`.

    Attributes:
        epoch: int, the episodes of an epoch.

    Raises:
        ValueError: if `tasks` is another family, or draws sizes or groups.

    >>> from maml_keras.data import from_arrays
    >>> import numpy as np
    >>> pool = from_arrays(np.arange(12.0)[:, None], np.arange(12) % 6)
    >>> tasks = WithoutReplacement(NWayKShot(pool, ways=2, shots=1, queries=1))
    >>> tasks.epoch
    3
    >>> task, _ = tasks.sample_many([0, 1], 3)
    >>> len(set(task["support_x"].numpy().ravel() % 6))  # All six classes.
    6
    """

    def __init__(self, tasks: NWayKShot) -> None:
        if not isinstance(tasks, NWayKShot):
            raise ValueError(
                "`tasks` must be an NWayKShot, whose classes and examples can be "
                f"counted. Received: {tasks!r}."
            )
        if not isinstance(tasks.sizes, WholeSizes) or tasks.within is not None:
            raise ValueError(
                "`tasks` must have whole numbers for `ways`, `shots` and `queries`, "
                "and no `within`, so that an epoch can be cut evenly. Received: "
                f"{tasks!r}."
            )
        self.tasks = tasks
        counts = tasks.pool.counts
        self._rounds = int(counts.min()) // tasks.sizes.picks
        self._tasks_a_round = tasks.pool.num_classes // tasks.ways
        self.epoch = self._rounds * self._tasks_a_round
        # One seed serves one epoch.
        self.chunk = self.epoch

    def __repr__(self) -> str:
        return f"WithoutReplacement({self.tasks!r})"

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks; the first `epoch` of them are one epoch, and so on."""
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """Labels and row numbers of many tasks; int32 tensors `[count, examples]`."""
        first = as_seed(seed)
        epochs = [
            self._one_epoch(first if e == 0 else tf.random.fold_in(first, e))
            for e in range(-(-count // self.epoch))
        ]
        plan: dict[str, Any] = tf.nest.map_structure(
            lambda *parts: tf.concat(parts, axis=0)[:count], *epochs
        )
        return plan

    def _one_epoch(self, seed: Any) -> dict[str, Any]:
        seeds = tf.unstack(tf.random.split(seed, 5))
        pool, ways = self.tasks.pool, self.tasks.ways
        used = self._tasks_a_round * ways
        order = ranking(seeds[0], [self._rounds, pool.num_classes], used)
        classes = tf.reshape(order, [self.epoch, ways])
        each = self.tasks.sizes.picks
        picks = ranking(
            seeds[1],
            [pool.num_classes, int(pool.counts.max())],
            self._rounds * each,
            sizes=tf.constant(pool.counts, tf.int32),
        )
        pieces = tf.reshape(picks, [pool.num_classes, self._rounds, each])
        turn = tf.repeat(tf.range(self._rounds), self._tasks_a_round)
        turns = tf.broadcast_to(turn[:, None], [self.epoch, ways])
        chosen = tf.gather_nd(pieces, tf.stack([classes, turns], axis=-1))
        return self.tasks.arranged(seeds, classes, chosen)

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan: replaces row numbers by examples."""
        return self.tasks.fill(plan)
