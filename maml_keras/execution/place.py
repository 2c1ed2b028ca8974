"""Where a replica's tasks stand in the batch of all replicas, and means over all tasks.

Everything here runs inside of one replica. With one device nothing changes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

SUM = tf.distribute.ReduceOp.SUM

# The engines sum these types; other floats are too short for a sum over tasks.
_SUMMED = (tf.float32, tf.float64, tf.int32, tf.int64)


class Place:
    """The place of a replica's tasks; replicas stand in the order of their numbers.

    Args:
        own: int tensor, tasks of this replica.
    """

    def __init__(self, own: Any) -> None:
        context: Any = tf.distribute.get_replica_context()
        shared = context is not None and context.num_replicas_in_sync > 1
        self._context: Any = context if shared else None
        self.own = own
        self._sizes: Any = None

    @property
    def is_shared(self) -> bool:
        """True if there are several replicas."""
        return self._context is not None

    def _sizes_of_all(self) -> Any:
        """Tasks of each replica, `[replicas]`."""
        # A `cached_property` has a lock, on which another replica's thread would wait.
        if self._sizes is None:
            replicas = self._context.num_replicas_in_sync
            here = tf.one_hot(self._context.replica_id_in_sync_group, replicas)
            sizes = self._context.all_reduce(SUM, here * tf.cast(self.own, tf.float32))
            self._sizes = tf.cast(sizes, tf.int32)
        return self._sizes

    @property
    def total(self) -> Any:
        """Int tensor, tasks of all replicas."""
        return tf.reduce_sum(self._sizes_of_all()) if self.is_shared else self.own

    def rows(self, values: Any) -> Any:
        """This replica's rows of values `[tasks of all replicas, ...]`."""
        if not self.is_shared:
            return values
        before = tf.cumsum(self._sizes_of_all(), exclusive=True)
        first = before[self._context.replica_id_in_sync_group]
        return values[first : first + self.own]

    def at_least_one(self, elements: Any) -> Any:
        """Elements `[tasks, ...]`; a replica without tasks gets one of zeros.

        Not every operation has a form for no task. The task of zeros counts nothing in
        `mean`.
        """
        leaves = tf.nest.flatten(elements)
        if not self.is_shared or any(t.shape[0] for t in leaves):
            return elements
        missing = tf.maximum(1 - self.own, 0)

        def filled(t: Any) -> Any:
            zeros = tf.zeros(tf.concat([[missing], tf.shape(t)[1:]], 0), t.dtype)
            joined = tf.concat([t, zeros], axis=0)
            joined.set_shape([None, *t.shape[1:]])
            return joined

        return tf.nest.map_structure(filled, elements)

    def as_many(self, results: Any, like: Any) -> Any:
        """Results `[tasks, ...]` without that of a task of zeros.

        Args:
            results: nest of tensors.
            like: nest of tensors, as many rows as `at_least_one` received.
        """
        if not self.is_shared or any(t.shape[0] for t in tf.nest.flatten(like)):
            return results
        return tf.nest.map_structure(lambda t: t[: self.own], results)

    def mean(self, means: Any) -> tuple[Any, Any]:
        """Means over all tasks, and how many these are.

        `sum_r n_r m_r / sum_r n_r`

        Args:
            means: nest of float tensors, means over this replica's tasks. The numbers
                of a replica without tasks count nothing, whatever they are.
        """
        if not self.is_shared:
            return means, self.own
        flat = [tf.convert_to_tensor(t) for t in tf.nest.flatten(means)]
        wide = [t if t.dtype in _SUMMED else tf.cast(t, tf.float32) for t in flat]
        own = [tf.cast(self.own, t.dtype) for t in wide]
        parts = [tf.math.multiply_no_nan(t, n) for t, n in zip(wide, own)]
        count = tf.cast(self.own, tf.float32)
        *sums, total = self._summed([*parts, count])
        results = [
            tf.cast(s / tf.cast(total, s.dtype), t.dtype) for s, t in zip(sums, flat)
        ]
        return tf.nest.pack_sequence_as(means, results), tf.cast(total, tf.int32)

    def of_first(self, values: Any) -> Any:
        """The first replica's values, which are integers or flags, for all."""
        flat = tf.nest.flatten(values)
        if not self.is_shared or not flat:
            return values
        is_first = tf.equal(self._context.replica_id_in_sync_group, 0)
        wide = [tf.cast(t, tf.int64) for t in flat]
        whole = [tf.where(is_first, t, tf.zeros_like(t)) for t in wide]
        summed = self._summed(whole)
        results = [tf.cast(s, t.dtype) for s, t in zip(summed, flat)]
        return tf.nest.pack_sequence_as(values, results)

    def _summed(self, tensors: list[Any]) -> list[Any]:
        """Sums over replicas, in one message for each type."""
        result: list[Any] = list(tensors)
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            which = [i for i, t in enumerate(tensors) if t.dtype == dtype]
            flat = tf.concat([tf.reshape(tensors[i], [-1]) for i in which], axis=0)
            flat = self._context.all_reduce(SUM, flat)
            shapes = [tf.shape(tensors[i]) for i in which]
            parts = tf.split(flat, [tf.reduce_prod(shape) for shape in shapes])
            for i, part, shape in zip(which, parts, shapes):
                result[i] = tf.reshape(part, shape)
                result[i].set_shape(tensors[i].shape)
        return result
