"""`episodes`: turns a task family into a `tf.data.Dataset` of batches."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.data.family import TaskFamily
from maml_keras.data.pipeline_options import untuned
from maml_keras.data.preparation import preparation_of
from maml_keras.data.seeds import seed_from
from maml_keras.data.shares import Share

# At most four, even on many cores, because each one is a whole batch in memory.
BATCHES_AT_ONCE = min(4, os.cpu_count() or 1)
TASK_KEYS = {"support_x", "support_y", "query_x"}
# Tasks of different sizes are padded, and their weights say where.
WEIGHTS = {"support_weight", "query_weight"}


def episodes(
    tasks: TaskFamily,
    *,
    batch_size: int,
    seed: int,
    num_episodes: int | None = None,
    start: Any = 0,
) -> Any:
    """Batches of episodes; episode i is a pure function of `(tasks, seed, i)`.

    `episode_i = sample_many(fold_in(seed, i // chunk), chunk)[i % chunk]`

    An episode does not depend on the batch size, on the process or on the first
    episode. So a seed defines "the same 600 test tasks", and a counter is enough to
    resume.

    Args:
        tasks: the family to draw from.
        batch_size: int, tasks per batch.
        seed: int of any size and sign; two seeds give unrelated streams.
        num_episodes: int, or None for an endless stream. The last batch of a finite
            stream may be short. Each pass repeats the same episodes in the same order.
        start: the index of the first episode: an int, or a scalar integer
            `tf.Variable` (on the CPU) that each new iterator reads when it fetches
            its first batch. A finite stream begins at `start % num_episodes` and
            always ends after episode `num_episodes - 1`.

    Returns:
        A `tf.data.Dataset` of `({"support_x", "support_y", "query_x"}, query_y)`,
        each `[tasks, examples, ...]`. TensorFlow's tuner is off, also in datasets that
        are made from this one, because the tuner may delay the end of an iterator.
        The attribute `starting_at` of the dataset is a function `start -> Dataset`,
        which returns the same stream from another start; the attribute `shared` does
        so for the tasks that one of several processes makes. (Further transformations
        of the dataset lose these attributes.) The attribute `tasks` is the family.

    Raises:
        ValueError: if an argument is of the wrong type or out of range, or `tasks`
            does not produce episodes.

    >>> from maml_keras.data import Sinusoid
    >>> batches = episodes(Sinusoid(shots=5), batch_size=4, seed=1, num_episodes=10)
    >>> [int(query_y.shape[0]) for _, query_y in batches]
    [4, 4, 2]
    >>> task, query_y = next(iter(batches))
    >>> task["support_x"].shape, query_y.shape
    (TensorShape([4, 5, 1]), TensorShape([4, 10, 1]))
    """
    if not isinstance(tasks, TaskFamily):
        raise ValueError(
            f"`tasks` must be a TaskFamily. Received: {tasks!r} (type "
            f"{type(tasks).__name__}). Pass e.g. `Sinusoid()` or `NWayKShot(pool, "
            "...)`, or subclass `TaskFamily`."
        )
    _check_whole("batch_size", batch_size, at_least=1)
    if num_episodes is not None:
        _check_whole("num_episodes", num_episodes, at_least=1)
    _check_start(start)
    return _stream(tasks, batch_size, seed, num_episodes, start)


def _stream(
    tasks: TaskFamily,
    batch_size: int,
    seed: int,
    num_episodes: int | None,
    start: Any,
    share: Share | None = None,
) -> Any:
    """The batches, or of each batch the parts of a share."""
    base = seed_from(seed)
    chunk = tasks.chunk

    def plan_rows(index: Any, position: Any) -> Any:
        plan = tasks.plan(tf.random.fold_in(base, index), chunk)
        low = tf.maximum(position - index * chunk, 0)
        high = tf.minimum(_end(num_episodes) - index * chunk, chunk)
        # A dictionary, because tf.data would unpack a tuple into arguments.
        return {"plan": tf.nest.map_structure(lambda t: t[low:high], plan)}

    # Plans are small, so cutting and re-batching happens on plans. `fill` then produces
    # the examples of a batch once.
    plans = (
        _chunks_from(start, num_episodes, chunk)
        .map(plan_rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .rebatch(batch_size, drop_remainder=num_episodes is None)
    )
    if share is None:
        dataset = plans.map(
            lambda row: tasks.fill(row["plan"]),
            num_parallel_calls=BATCHES_AT_ONCE,
            deterministic=True,
        )
    else:
        dataset = share.parts(plans, lambda row: tasks.fill(row["plan"]))
    _check_episode(tasks, dataset.element_spec)
    parts = 1 if share is None else share.here
    if num_episodes is None:
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
    elif share is None and not isinstance(start, tf.Variable):
        batches = math.ceil((num_episodes - start % num_episodes) / batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    dataset = untuned(dataset.prefetch(2 * parts))

    def starting_at(start: Any) -> Any:
        return episodes(
            tasks,
            batch_size=batch_size,
            seed=seed,
            num_episodes=num_episodes,
            start=start,
        )

    def shared(share: Share, start: Any = start) -> Any:
        _check_start(start)
        return _stream(tasks, batch_size, seed, num_episodes, start, share)

    resume: Callable[[Any], Any] = starting_at
    dataset.starting_at = resume
    dataset.shared = shared
    dataset.tasks = tasks
    # Found here by the model that is trained on these episodes.
    dataset.preparation = preparation_of(tasks)
    return dataset


def _chunks_from(start: Any, num_episodes: int | None, chunk: int) -> Any:
    """Dataset of `(index of a chunk, index of the first episode)`."""

    def chunks(position: Any) -> Any:
        position = tf.cast(position, tf.int64)
        if num_episodes is not None:
            position %= num_episodes
        stop = -(-_end(num_episodes) // chunk)
        return tf.data.Dataset.range(position // chunk, stop).map(
            lambda index: (index, position)
        )

    if isinstance(start, tf.Variable):
        # Reading inside a function of the pipeline makes each iterator read again.
        return tf.data.Dataset.from_tensors(0).flat_map(
            lambda _: chunks(start.read_value())
        )
    return chunks(start)


def _end(num_episodes: int | None) -> int:
    # Half of the int64 range, so that sums of positions and chunks cannot overflow.
    return 2**62 if num_episodes is None else num_episodes


def _check_whole(name: str, value: Any, *, at_least: int) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < at_least:
        raise ValueError(
            f"`{name}` must be an integer of at least {at_least}. Received: "
            f"{value!r}. Pass e.g. {name}={max(at_least, 1)}."
        )


def _check_start(start: Any) -> None:
    if not isinstance(start, tf.Variable):
        _check_whole("start", start, at_least=0)
    elif not start.dtype.is_integer or start.shape.rank != 0:
        raise ValueError(
            "`start` must be an integer or a scalar integer tf.Variable. Received: a "
            f"variable with dtype={start.dtype.name}, shape={start.shape}. Pass e.g. "
            "tf.Variable(0, dtype=tf.int64)."
        )


def _check_episode(tasks: TaskFamily, spec: Any) -> None:
    pair = isinstance(spec, tuple) and len(spec) == 2
    keys = set(spec[0]) if pair and isinstance(spec[0], dict) else set()
    if keys - WEIGHTS != TASK_KEYS:
        raise ValueError(
            f"`tasks` must produce ({{'support_x', 'support_y', 'query_x'}}, query_y)."
            f" Received from {tasks!r}: {spec}. Return that pair from `sample`."
        )
