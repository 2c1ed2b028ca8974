"""`Clients`: a task is a person or a device, with its own examples."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import tensorflow as tf

from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.rankings import ranking
from maml_keras.data.rows import gather, table
from maml_keras.data.seeds import as_seed
from maml_keras.data.shots_draws import whole

# Keys that an episode draws at once, so that clients of many examples fit in memory.
KEYS_AT_ONCE = 2**22
# Plans of a chunk, if rounds are smaller.
PLANS = 64


@final
class Clients(TaskFamily):
    """Tasks from arrays in which each example belongs to a person or a device.

    Each episode draws a client, all with the same probability, and different examples
    of it. What an example is asked (`y`) means the same for all clients, so one model
    for all is possible, and adaptation can only gain what is personal.

    Args:
        x: array `[examples, ...]`, or a dict of arrays for a model of several inputs.
            Images of bytes become floats in [0, 1].
        y: array of targets `[examples, ...]`.
        clients: sequence `[examples]`, whose each example is.
        shots: int, support examples; or `"rest"` for all but the queries, as on a
            device that learns from everything it has. Smaller clients are then padded
            to the largest, and `support_weight` is 0 on padding.
        queries: int, query examples.
        per_round: int, how many successive episodes are of different clients. With
            `episodes(..., batch_size=per_round)` each batch is a round of federated
            learning. With all clients, each pass takes every client once.

    Attributes:
        names: tuple, the name of each client, sorted.
        counts: int array `[clients]`, the examples of each client.

    Raises:
        ValueError: if the arrays do not fit each other, a client has too few examples,
            or there are fewer clients than `per_round`.

    Reference: McMahan et al., 2017, https://arxiv.org/abs/1602.05629

    >>> x, y = np.arange(9.0)[:, None], np.arange(9.0)[:, None]
    >>> people = Clients(x, y, list("aaaabbbcc"), shots="rest", queries=1, per_round=3)
    >>> task, query_y = people.sample_many([0, 1], 3)
    >>> sorted(task["support_weight"].numpy().sum(axis=1).tolist())
    [1.0, 2.0, 3.0]
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        clients: Any,
        *,
        shots: int | Literal["rest"],
        queries: int,
        per_round: int = 1,
    ) -> None:
        owners = np.asarray(clients)
        names, owner = np.unique(owners, return_inverse=True)
        arrays = {f"x[{k!r}]": v for k, v in x.items()} if isinstance(x, dict) else {}
        for name, array in {**(arrays or {"x": x}), "y": y}.items():
            if owners.ndim != 1 or len(array) != len(owners):
                raise ValueError(
                    f"`clients` must name one client for each example of `{name}`. "
                    f"Received: shape {owners.shape} for {len(array)} examples. Pass "
                    "one name for each example."
                )
        self.names = tuple(names.tolist())
        self.counts = np.bincount(owner, minlength=len(names))
        self.shots, self.queries = shots, whole("queries", queries, 1)
        self.per_round = whole("per_round", per_round, 1)
        self._check()
        largest = int(self.counts.max())
        self._wanted = largest if shots == "rest" else int(shots) + self.queries
        a_round = self.per_round * max(largest, len(names))
        rounds = max(1, min(PLANS // self.per_round, KEYS_AT_ONCE // a_round))
        self.chunk = rounds * self.per_round
        order = np.argsort(owner, kind="stable")
        self._x = table(
            {k: _ready(f"x[{k!r}]", v)[order] for k, v in x.items()}
            if isinstance(x, dict)
            else _ready("x", x)[order]
        )
        with tf.init_scope(), tf.device("CPU:0"):  # See `Held`.
            self._y = tf.constant(_ready("y", y)[order])
            self._counts = tf.constant(self.counts, tf.int32)
            self._offsets = tf.constant(np.cumsum(self.counts) - self.counts, tf.int32)

    def __repr__(self) -> str:
        low, high = int(self.counts.min()), int(self.counts.max())
        each = f"{low}" if low == high else f"{low} to {high}"
        return (
            f"Clients({len(self.names)} clients, {each} examples each, "
            f"shots={self.shots!r}, queries={self.queries}, per_round={self.per_round})"
        )

    def _check(self) -> None:
        if self.shots != "rest":
            whole("shots", self.shots, 1)
        if not self.names:
            raise ValueError("`clients` must name a client. Received: no examples.")
        if len(self.names) < self.per_round:
            raise ValueError(
                "`per_round` must not exceed the number of clients. Received: "
                f"per_round={self.per_round} for {len(self.names)} clients. Lower it."
            )
        least = self.queries + (1 if self.shots == "rest" else int(self.shots))
        small = int(self.counts.argmin())
        if self.counts[small] < least:
            raise ValueError(
                f"`shots` and `queries` must fit in the smallest client: {least} "
                f"examples. Received: {self.counts[small]} for client "
                f"{self.names[small]!r}. Lower the numbers, or leave this client out."
            )

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks, `per_round` after `per_round` of different clients.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            `support_x [count, shots, ...]`, `query_x [count, queries, ...]`, and their
            targets; for `shots="rest"` also `support_weight`.
        """
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """Row numbers of many tasks, int32 `[count, examples]`; -1 is padding."""
        seeds = tf.unstack(tf.random.split(as_seed(seed), 2))
        rounds = -(-count // self.per_round)
        drawn = ranking(seeds[0], [rounds, len(self.names)], self.per_round)
        clients = tf.reshape(drawn, [-1])[:count]
        sizes = tf.gather(self._counts, clients)
        largest = int(self.counts.max())
        picks = ranking(seeds[1], [count, largest], self._wanted, sizes=sizes)
        rows = tf.gather(self._offsets, clients)[:, None] + picks
        there = tf.range(self._wanted) < sizes[:, None]
        return {"rows": tf.where(there, rows, -1)}

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan: replaces row numbers by examples."""
        query, support = tf.split(plan["rows"], [self.queries, -1], axis=1)
        there = support >= 0
        # Padding repeats an example of the client, so its values are ordinary.
        support = tf.where(there, support, support[:, :1])
        task = {
            "support_x": gather(self._x, support),
            "support_y": tf.gather(self._y, support),
            "query_x": gather(self._x, query),
        }
        if self.shots == "rest":
            task["support_weight"] = tf.cast(there, tf.float32)
        return task, tf.gather(self._y, query)


def _ready(name: str, values: Any) -> Any:
    """The array as episodes hold it: floats are float32, and finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` must be numeric. Received: dtype {array.dtype}. Encode the data "
            "first."
        )
    if array.dtype.kind in "bf":
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` must be finite. Received: {(~np.isfinite(array)).sum()} NaN "
                "or infinite values. Remove or replace them first."
            )
    return array
