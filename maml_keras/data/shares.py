"""The tasks of a batch that one of several processes makes."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """The consecutive replicas of one process; each replica gets its part of a batch.

    `n` tasks on `R` replicas: replica r gets `n // R` tasks, and one more if
    `r < n % R`. Parts are in the order of the tasks.

    Attributes:
        first: int, the number of the process's first replica.
        here: int, replicas of the process.
        replicas: int, replicas of all processes.

    >>> share = Share(first=0, here=3, replicas=3)
    >>> batches = tf.data.Dataset.range(5).batch(5)
    >>> [part.numpy().tolist() for part in share.parts(batches)]
    [[0, 1], [2, 3], [4]]
    """

    first: int
    here: int
    replicas: int

    def parts(self, batches: Any, make: Any = None) -> Any:
        """The parts of each batch for the replicas of this process, one after another.

        Args:
            batches: a `tf.data.Dataset` of nests of tensors `[tasks, ...]`.
            make: makes episodes of the rows of a plan, at least one row; None if the
                batches are episodes already. Only the own rows are made.

        Returns:
            A `tf.data.Dataset` with an element for each batch and each replica of the
            process, in this order. A part may have no task.
        """

        def of_batch(*batch: Any) -> Any:
            nest = batch[0] if len(batch) == 1 else batch
            replicas = tf.data.Dataset.range(self.first, self.first + self.here)
            return replicas.map(lambda replica: self._cut(nest, replica, make))

        parts = batches.flat_map(of_batch)
        if make is None:
            return parts
        return parts.map(
            lambda part: tf.nest.map_structure(
                lambda t: _first_rows(t, part["rows"]), make(part["plan"])
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def bounds(self, tasks: Any, replica: Any) -> tuple[Any, Any]:
        """First task of a replica, and how many tasks the replica has.

        Args:
            tasks: int or int tensor, tasks of the batch.
            replica: int or int tensor, number of the replica.
        """
        each, more = tasks // self.replicas, tasks % self.replicas
        first = replica * each + tf.minimum(replica, more)
        return first, each + tf.cast(replica < more, tf.int32)

    def _cut(self, nest: Any, replica: Any, make: Any) -> Any:
        leaf = tf.nest.flatten(nest)[0]
        tasks = leaf.shape[0]
        if tasks is not None and tasks % self.replicas == 0:
            rows = tasks // self.replicas
            low = tf.cast(replica, tf.int32) * rows
        else:
            low, rows = self.bounds(tf.shape(leaf)[0], tf.cast(replica, tf.int32))
        if make is None:
            return tf.nest.map_structure(lambda t: _rows(t, low, rows), nest)
        # Not every family can make no task at all, so a replica without tasks makes one
        # and drops the result.
        some = tf.maximum(rows, 1) if isinstance(rows, tf.Tensor) else rows
        low = tf.minimum(low, tf.shape(leaf)[0] - some)
        plan = tf.nest.map_structure(lambda t: _rows(t, low, some), nest)
        return {"plan": plan, "rows": rows}


def _rows(tensor: Any, low: Any, rows: Any) -> Any:
    part = tensor[low : low + rows]
    known = rows if isinstance(rows, int) else None
    part.set_shape([known, *tensor.shape[1:]])
    return part


def _first_rows(tensor: Any, rows: Any) -> Any:
    """The first rows of a tensor; a known number of rows is all of them."""
    return tensor if tensor.shape[0] is not None else tensor[:rows]
