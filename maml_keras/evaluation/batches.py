"""The batches of episodes that an evaluation takes, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from maml_keras.data.plain_errors import plainly


def batches(episodes: Any) -> Iterator[Any]:
    """The batches of `episodes`.

    Raises:
        ValueError: if `episodes` is a single batch, or an example cannot be read.
    """
    if isinstance(episodes, tuple) and episodes and isinstance(episodes[0], dict):
        raise ValueError(
            "`episodes` must be a dataset or an iterable of batches (task, query_y). "
            "Received: a single batch. Put it into a list: `[batch]`."
        )
    with plainly():
        yield from episodes


def batches_left(episodes: Any, seen: int) -> int | None:
    """The number of batches after those seen; None if it is unknown or infinite.

    >>> batches_left([None, None, None], 1)
    2
    """
    if isinstance(episodes, tf.data.Dataset):
        count = int(episodes.cardinality())
    else:
        count = len(episodes) if hasattr(episodes, "__len__") else -1
    return None if count < 0 else max(count - seen, 0)


def expected(done: int, rest: int | None, batch_size: int, num_tasks: int) -> int:
    """The number of tasks that a bar should count to.

    Args:
        done: int, tasks so far.
        rest: int, batches that are left, or None if that is unknown.
        batch_size: int, tasks of the last batch.
        num_tasks: int, wanted number of tasks.

    >>> expected(4, 2, 4, 600), expected(4, 2, 4, 10), expected(4, None, 4, 600)
    (12, 10, 600)
    """
    return num_tasks if rest is None else min(num_tasks, done + rest * batch_size)


def check_repeatable(episodes: Any) -> None:
    """Refuses episodes that can be drawn only once, such as a generator.

    Raises:
        ValueError: if `episodes` is an iterator.
    """
    if isinstance(episodes, Iterator):
        raise ValueError(
            "`episodes` must be a dataset or a list of batches, which give the same "
            f"tasks each time. Received: {type(episodes).__name__}, which gives each "
            "task only once. Keep some: `list(itertools.islice(episodes, 5))`."
        )


def first_tasks(count: int, batch: Any) -> Any:
    """The first tasks of a nest of arrays `[tasks, ...]`, as tensors."""
    return tf.nest.map_structure(lambda a: tf.convert_to_tensor(a)[:count], batch)
