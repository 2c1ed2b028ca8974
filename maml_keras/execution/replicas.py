"""The replicas of a distribution strategy: their data, and the step that they share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.data.pipeline_options import untuned
from maml_keras.data.shares import Share
from maml_keras.execution.keras_replicas import (
    check_version,
    counted,
    results_of_all,
    summed_already,
)


class LostWorkerError(ConnectionError):
    """Another worker of the cluster has ended, or does not answer.

    >>> issubclass(LostWorkerError, ConnectionError)
    True
    """


# Types that every engine gathers from other processes.
_NETWORK = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_GATHERED = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64, tf.bfloat16)


class Replicas:
    """The devices of one or several processes that train one model.

    Args:
        strategy: a `tf.distribute.MirroredStrategy`, a
            `tf.distribute.MultiWorkerMirroredStrategy` or a `OneDeviceStrategy`.

    Raises:
        ValueError: if the strategy is another one.
    """

    def __init__(self, strategy: Any) -> None:
        known = (
            tf.distribute.MirroredStrategy,
            tf.distribute.MultiWorkerMirroredStrategy,
            tf.distribute.OneDeviceStrategy,
        )
        if not isinstance(strategy, known):
            raise ValueError(
                "The strategy must be a `tf.distribute.MirroredStrategy` or a "
                "`tf.distribute.MultiWorkerMirroredStrategy`. Received: a "
                f"{type(strategy).__name__}. Keras trains with no other in a way that "
                "keeps the numbers of one device."
            )
        check_version()
        self.strategy = strategy
        self.count = int(strategy.num_replicas_in_sync)
        resolver = strategy.cluster_resolver
        tasks = resolver.cluster_spec().as_dict().get("worker", []) if resolver else []
        self.workers = max(1, len(tasks))
        self.worker = int(resolver.task_id or 0) if self.workers > 1 else 0

    @property
    def writes(self) -> bool:
        """True in the one process that writes files."""
        return self.worker == 0

    # Workers --------------------------------------------------------------------

    def of_all(self, number: int) -> list[int]:
        """A number of each worker. Every worker waits for the others here."""
        if self.workers == 1:
            return [number]
        with self.noticing_lost_workers():
            own = self.strategy.run(lambda: tf.constant([number], tf.int64))
            return [int(n) for n in self.strategy.gather(own, axis=0)]

    def check_same(self, number: int, what: str, remedy: str) -> None:
        """Refuses to go on if workers have different numbers.

        Args:
            number: int, of this worker.
            what: str, what the number is.
            remedy: str, a sentence that says what to do.

        Raises:
            ValueError: with the numbers of all workers.
        """
        found = self.of_all(number)
        if len(set(found)) > 1:
            raise ValueError(
                f"All workers must have the same {what}. Received: {found}. {remedy}"
            )

    @contextlib.contextmanager
    def noticing_lost_workers(self) -> Iterator[None]:
        """Says in a sentence that another worker was lost.

        Raises:
            LostWorkerError: in place of the errors of TensorFlow's network.
        """
        try:
            yield
        except _NETWORK as error:
            if self.workers == 1:
                raise
            raise LostWorkerError(
                "All workers must run until the end. Received: worker "
                f"{self.worker} of {self.workers} no longer hears from another one "
                f"({type(error).__name__}). Start all workers again; with "
                "`WholeBackup`, or `--resume` on the command line, they go on behind "
                "the last whole epoch."
            ) from error

    # Data -----------------------------------------------------------------------

    def spread(self, data: Any, start: Any = None) -> Any:
        """The data, of which each replica gets its own tasks.

        Args:
            data: a `tf.data.Dataset` of batches; other data if there is one process.
                Of the batches of `maml_keras.data.episodes` a process makes its own
                tasks only; of others it makes all.
            start: None, or an integer variable on the CPU, the first episode of each
                new iterator.

        Raises:
            ValueError: if several processes cannot be sure to see the same data.
        """
        if isinstance(data, tf.distribute.DistributedDataset) or data is None:
            return data
        if not isinstance(data, tf.data.Dataset):
            if self.workers > 1:
                raise ValueError(
                    "Several workers need data as a `tf.data.Dataset`, such as "
                    f"`maml_keras.data.episodes(...)`. Received: {type(data).__name__}."
                    " Pass `tf.data.Dataset.from_tensor_slices((task, query_y))"
                    ".batch(n)`."
                )
            return data
        here = self.count // self.workers

        def of_worker(context: Any) -> Any:
            share = Share(context.input_pipeline_id * here, here, self.count)
            shared = getattr(data, "shared", None)
            if shared is None:
                return untuned(share.parts(data).prefetch(2 * here))
            return shared(share) if start is None else shared(share, start)

        distributed = self.strategy.distribute_datasets_from_function(of_worker)
        return counted(distributed, int(data.cardinality()))

    def cut(self, batch: Any) -> Any:
        """The parts of a batch that this process holds whole, for its replicas."""
        leaf = tf.nest.flatten(batch)[0]
        share = Share(0, self.count, self.count)

        def cut(tensor: Any) -> Any:
            tensor = tf.convert_to_tensor(tensor)

            def of_replica(context: Any) -> Any:
                replica = context.replica_id_in_sync_group
                low, rows = share.bounds(int(leaf.shape[0]), replica)
                return tensor[int(low) : int(low) + int(rows)]

            return self.strategy.experimental_distribute_values_from_function(
                of_replica
            )

        return tf.nest.map_structure(lambda t: None if t is None else cut(t), batch)

    def parts(self, batch: Any) -> list[Any]:
        """The parts of a spread batch that this process holds."""
        each = [
            None if t is None else self.strategy.experimental_local_results(t)
            for t in tf.nest.flatten(batch)
        ]
        return [
            tf.nest.pack_sequence_as(batch, [t and t[i] for t in each])
            for i in range(self.count // self.workers)
        ]

    def whole(self, batch: Any) -> Any:
        """The batch of all replicas, in each process. All processes must call this."""

        def gathered(value: Any) -> Any:
            if value is None:
                return None
            if self.workers == 1:
                values = self.strategy.experimental_local_results(value)
                return tf.concat(values, axis=0)
            dtype = self.strategy.experimental_local_results(value)[0].dtype
            if dtype not in _GATHERED:
                value = self.strategy.run(tf.cast, (value, tf.int64))
            return tf.cast(self.strategy.gather(value, axis=0), dtype)

        return tf.nest.map_structure(gathered, batch)

    # Steps ----------------------------------------------------------------------

    def training_step(
        self, model: keras.Model, find: Callable[..., Any], take: Callable[..., Any]
    ) -> Callable[..., Any]:
        """A training step: `(batch, positions) -> (logs, taken)`.

        Args:
            model: the model, for its metrics.
            find: `(batch, positions) -> (found, finite)`, the same on all replicas.
            take: `(batch, positions, found)`, applies what was found; returns logs.
        """
        strategy = self.strategy

        def step(batch: Any, positions: Any = None) -> tuple[dict[str, Any], Any]:
            found, finite = strategy.run(find, (batch, positions))
            finite = strategy.experimental_local_results(finite)[0]

            def taken() -> Any:
                with summed_already(model.optimizer):
                    strategy.run(take, (batch, positions, found))
                return tf.constant(True)

            # A branch inside of a replica could not wait for other replicas.
            done = tf.cond(finite, taken, lambda: tf.constant(False))
            return results_of_all(model, strategy), done

        return step

    def test_step(
        self, model: keras.Model, step: Callable[[Any], Any]
    ) -> Callable[[Any], Any]:
        """A step of `evaluate`: `batch -> logs` over the tasks of all replicas.

        Args:
            model: the model, for its metrics.
            step: the step of one replica, which updates metrics.
        """

        def updated(part: Any) -> None:
            step(part)

        def test(batch: Any) -> dict[str, Any]:
            self.strategy.run(updated, (batch,))
            return results_of_all(model, self.strategy)

        return test

    def predictions(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Predictions `[tasks of all replicas, ...]` of a spread batch.

        Args:
            step: predictions of the tasks of one replica.
        """
        return lambda batch: self.whole(self.strategy.run(step, (batch,)))
