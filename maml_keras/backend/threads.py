"""Sets the threads of TensorFlow for many small tasks."""

from __future__ import annotations

import os

import tensorflow as tf


def use_one_thread_per_task() -> None:
    """Gives each task one core. Call this function before TensorFlow runs anything.

    The function calls `tf.config.threading.set_intra_op_parallelism_threads(1)` and
    `set_inter_op_parallelism_threads(cores)`. By default TensorFlow splits each
    operation over all cores, while the parallel task map runs as many tasks as there
    are cores, and both compete. One core per operation is faster for the convolutional
    networks of the papers, and a few percent slower for tiny networks.

    The setting holds for the whole process, so the library does not change it on
    import. The command line, which owns its process, calls this function.

    Raises:
        RuntimeError: if TensorFlow has already run an operation.

    >>> ran = tf.constant(1.0) + 1.0
    >>> use_one_thread_per_task()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    RuntimeError: `use_one_thread_per_task` must be called before TensorFlow runs ...
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    except RuntimeError as error:
        raise RuntimeError(
            "`use_one_thread_per_task` must be called before TensorFlow runs its first "
            "operation. Call it right after the imports, before any model, dataset or "
            "`keras.utils.set_random_seed`."
        ) from error
